# A fresh machine needs Python 3.11 or newer and make; every target sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help leaderboard test test-slow check format clean

help:
	@echo "make leaderboard   set up, run the embedded suite, print and write the leaderboard"
	@echo "make test          set up and run the tests"
	@echo "make test-slow     the tests that take minutes"
	@echo "make check         format, lint, types, import arrows"
	@echo "make format        put the code into shape"
	@echo "make clean         remove .venv and caches, not the workspace"

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("make: Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=24'
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $(READY)

leaderboard: $(READY)
	@$(BIN)/htbench run --suite icons

test: $(READY)
	$(BIN)/python -m pytest -m 'not slow'

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist
