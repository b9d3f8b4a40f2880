#!/usr/bin/env bash
# Fetches Apache Kafka from Maven Central into a folder, for tests that need a broker. Repeating it costs milliseconds.
# The files and their checksums are listed in `kafka.jars`; Java 17 runs them. Tests of TLS make a certificate by openssl.
set -euo pipefail
cd "$(dirname "$0")"

folder=${DELTAWORKS_KAFKA:-$HOME/.cache/deltaworks/kafka}
mirror=${MAVEN_MIRROR:-https://repo1.maven.org/maven2}

packages=()
command -v java >/dev/null || packages+=(openjdk-17-jre-headless)
command -v openssl >/dev/null || packages+=(openssl)
if [ ${#packages[@]} -gt 0 ]; then
  sudo=$([ "$(id -u)" -eq 0 ] || echo sudo)
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq "${packages[@]}" >/dev/null
fi

stamp="$folder/.jars-$(sha256sum kafka.jars | cut -c1-16)"
[ -e "$stamp" ] && exit 0

mkdir -p "$folder"
fetched=$(mktemp -d "$folder/.fetch-XXXXXX")
trap 'rm -rf "$fetched"' EXIT
cut -c67- kafka.jars | xargs -P 8 -I{} sh -c 'curl -fsSL --retry 3 -o "$1/$(basename "$2")" "$3/$2"' _ "$fetched" {} "$mirror"
sed 's#  .*/#  #' kafka.jars | (cd "$fetched" && sha256sum --check --quiet)
rm -f "$folder"/*.jar "$folder"/.jars-*
mv "$fetched"/*.jar "$folder"
touch "$stamp"
