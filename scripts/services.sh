#!/usr/bin/env bash
# The programs that tests start for themselves, each on a free port with a folder of its own: a Redis, a Prometheus
# and a PostgreSQL.
# What is missing is installed where that can be done (root, apt-get); elsewhere it says what to install.
set -euo pipefail

packages=()
command -v redis-server >/dev/null || packages+=(redis-server)
command -v prometheus >/dev/null || packages+=(prometheus)
# Debian keeps its programs off the path.
compgen -c initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || packages+=(postgresql)
[ ${#packages[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "The tests need programs that aren't installed. On Debian: sudo apt-get install ${packages[*]}" >&2
    exit 1
fi

# Installed as programs, not as services: nothing is to run in the background.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
