#!/bin/sh
# Prints the path of a Chromium for the browser tests; installs Debian's when there is none and we may.
set -eu
for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
  [ -n "$name" ] && command -v "$name" && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing Chromium for the browser tests …" >&2
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 || true
  command -v chromium && exit 0
fi
echo "The browser tests need Chromium or Chrome. Install one (Debian: apt-get install chromium) or set CHROMIUM to its path." >&2
exit 1
