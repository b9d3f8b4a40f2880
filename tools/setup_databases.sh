#!/usr/bin/env bash
# Installs PostgreSQL and MariaDB from the distribution's packages, for tests that need their servers. Repeating it costs
# milliseconds. The tests start servers of their own, in temporary folders; none of the system's is needed or touched.
set -euo pipefail

packages=()
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || packages+=(postgresql)
[ -x /usr/sbin/mariadbd ] || packages+=(mariadb-server)
command -v openssl >/dev/null || packages+=(openssl)
if [ ${#packages[@]} -gt 0 ]; then
  sudo=$([ "$(id -u)" -eq 0 ] || echo sudo)
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
