#!/bin/sh
# Prints the path of a Chromium for the browser tests. If there is none and we are root on Debian, installs one first.
# The headless shell is preferred: the same engine without the desktop user interface, a quarter less CPU per test.
set -eu
for name in "${CHROMIUM:-}" chromium-headless-shell chromium chromium-browser google-chrome google-chrome-stable; do
  [ -n "$name" ] && command -v "$name" && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing Chromium for the browser tests …" >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >/dev/null 2>&1 || true
  for name in chromium-headless-shell chromium; do
    apt-get install -y -qq --no-install-recommends "$name" >/dev/null 2>&1 || true
    command -v "$name" && exit 0
  done
fi
echo "The browser tests need Chromium or Chrome. Install one (Debian: apt-get install chromium) or set CHROMIUM to its path." >&2
exit 1
