# Everything runs in .venv, which is made when it is missing or pyproject.toml is newer.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint bench crash soak shots clean

run: .venv/installed
	@exec $(BIN)/python app.py

test: .venv/installed-test .venv/installed-node
	@CHROMIUM="$$(sh tests/chromium.sh)" && W3M="$$(sh tests/w3m.sh)" && NGINX="$$(sh tests/nginx.sh)" && \
	NODE="$$(sh tests/node.sh)" && export CHROMIUM W3M NGINX NODE && \
	exec $(BIN)/python -X dev -m pytest -n 3 --dist worksteal $(ARGS)

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[audit]' && $(BIN)/python -m tests.audit

bench: .venv/installed-test
	@CHROMIUM="$$(sh tests/chromium.sh)" && export CHROMIUM && exec $(BIN)/python -m tests.bench $(ONLY) $(ARGS)

crash: .venv/installed-test
	@exec $(BIN)/python -m tests.crash $(or $(N),200) $(ARGS)

soak: .venv/installed-test
	@exec $(BIN)/python -m tests.soak $(or $(MINUTES),10) $(ARGS)

shots: .venv/installed-test
	@CHROMIUM="$$(sh tests/chromium.sh)" && export CHROMIUM && exec $(BIN)/python -m tests.shots

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Overseer needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 run")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv
	@echo "Installing Overseer into .venv …" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/installed-test: .venv/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

.venv/installed-node: tests/package.json tests/package-lock.json | .venv/installed-test
	@sh tests/node.sh install
	@touch $@
