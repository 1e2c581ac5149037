#!/bin/sh
# Prints the path of w3m for the tests without a graphical browser; installs Debian's when there is none and we may.
set -eu
for name in "${W3M:-}" w3m; do
  [ -n "$name" ] && command -v "$name" && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing w3m for the tests …" >&2
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends w3m; } >/dev/null 2>&1 || true
  command -v w3m && exit 0
fi
echo "The tests of the page in a text browser need w3m. Install it (Debian: apt-get install w3m) or set W3M to its path." >&2
exit 1
