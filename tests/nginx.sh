#!/bin/sh
# Prints the path of nginx for the tests behind a proxy; installs Debian's when there is none and we may.
set -eu
for name in "${NGINX:-}" nginx /usr/sbin/nginx; do
  [ -n "$name" ] && command -v "$name" && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing nginx for the tests …" >&2
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nginx; } >/dev/null 2>&1 || true
  for name in nginx /usr/sbin/nginx; do
    command -v "$name" && exit 0
  done
fi
echo "The tests behind a proxy need nginx. Install it (Debian: apt-get install nginx) or set NGINX to its path." >&2
exit 1
