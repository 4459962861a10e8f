# Two commands on a fresh machine with Python 3.11, make and a package index: `make demo`, `make test`.
PYTHON ?= python3
BIN := .venv/bin
OLDEST := 8.2.103

.PHONY: demo test lint docs audit clean
.DEFAULT_GOAL := demo

# uv resolves and installs the whole stack in half a minute; the file marks a finished installation. Bytecode is
# compiled now: where Python may not write it later, each start would compile torch again, which takes ten seconds.
.venv/installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@touch $@

# The oldest supported Ultralytics, beside the newest: tests put it first on the import path.
.venv/oldest: .venv/installed
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --target $@ ultralytics==$(OLDEST)
	@touch $@

demo: .venv/installed
	@$(BIN)/dualvit demo

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pylint --disable=all --enable=duplicate-code --min-similarity-lines=10 src

test: .venv/installed .venv/oldest lint
	$(BIN)/python -m pytest

# Nothing is fetched; a link or an anchor that leads nowhere is an error.
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --site-dir site

# Known faults of the pinned versions. It needs the advisories of pypi.org; one that cannot be asked for is an error.
audit: .venv/installed
	$(BIN)/uv tool run pip-audit --strict --requirement constraints.txt --no-deps --disable-pip --progress-spinner off

clean:
	rm -rf .venv build dist site
