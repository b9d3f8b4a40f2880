#!/usr/bin/env bash
# Brings a machine that has Rust, Python 3.11 and apt to where the project builds and tests. Repeating it costs
# milliseconds: each step leaves a stamp named after what it depends on.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${DELTAWORKS_VENV:-$HOME/.cache/deltaworks/venv}

packages=()
command -v protoc >/dev/null || packages+=(protobuf-compiler libprotobuf-dev)
# What the Kafka client is built with.
command -v pkg-config >/dev/null || packages+=(pkg-config)
[ -e /usr/include/openssl/ssl.h ] || packages+=(libssl-dev)
[ -e /usr/include/zlib.h ] || packages+=(zlib1g-dev)
if [ ${#packages[@]} -gt 0 ]; then
  sudo=$([ "$(id -u)" -eq 0 ] || echo sudo)
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq "${packages[@]}" >/dev/null
fi

requirements=python/requirements-dev.txt
stamp="$venv/.requirements-$(sha256sum $requirements | cut -c1-16)"
if [ ! -e "$stamp" ]; then
  python=$(command -v python3.11 || command -v python3)
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement $requirements
  rm -f "$venv"/.requirements-*
  touch "$stamp"
fi
