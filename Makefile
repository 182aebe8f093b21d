# Every target makes its own .venv from requirements.lock (hashes checked): no root, no system packages.
#
#   make run [ARGS="--vehicles 10000"]     make test [ARGS="-k split"]     PYTHON=/path/to/python3.12 make test

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Targets share one .venv and two cores.
.NOTPARALLEL:

ARGS ?=
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCKER := build/locker
FUZZER := build/fuzz/lib
LOCKED := iec61850 fast dask test check peers
PIP := -m pip --disable-pip-version-check --no-input
# Where the system can (util-linux), a killed make takes the run with it, in order; signals reach it anyhow.
GUARD := setpriv --pdeathsig TERM

# The first interpreter that runs and is one of ours. Shims of version managers may exist and still not run.
define FIND_PYTHON
wanted='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; \
found=; \
for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python); do \
  if "$$candidate" -c "$$wanted" >/dev/null 2>&1; then found=$$candidate; break; fi; \
done; \
if [ -z "$$found" ]; then \
  echo "flyball: no Python 3.11, 3.12 or 3.13 among: $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python)" >&2; \
  echo "         install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; \
  exit 1; \
fi
endef

.PHONY: help run test check bench bench-quick fuzz lock clean

help: ## what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: $(STAMP) ## the whole line on this machine and its dashboard; options in ARGS; Ctrl-C ends it
	@guard=; if $(GUARD) true 2>/dev/null; then guard='$(GUARD)'; fi; exec $$guard $(BIN)/flyball run $(ARGS)

test: $(STAMP) ## every test, scenarios included; the browser's is skipped visibly without Chromium
	@exec $(BIN)/python -m $(if $(ARGS),pytest,tests) $(ARGS)

check: $(STAMP) ## lint, format, types, layers, hygiene of the repository
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -p no:randomly tests/test_packaging.py

bench: $(STAMP) ## all figures, minutes; into benchmarks/out
	@exec $(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(STAMP) ## the quick figures, under three minutes
	@exec $(BIN)/python -m benchmarks --quick $(ARGS)

fuzz: $(STAMP) ## every decoder under coverage-guided fuzzing, a minute each; ARGS="c37118 --seconds 600"
	@$(BIN)/python $(PIP) install -qq --no-deps --target $(FUZZER) atheris==3.0.0 || \
	  echo "flyball: no atheris for this Python or machine: seeds are mutated without regard to coverage" >&2
	@PYTHONPATH=.:$(FUZZER) exec $(BIN)/python -m tests.fuzz $(ARGS)

lock: ## requirements.lock anew from pyproject.toml; versions stay where they can (UPGRADE=1: newest)
	@$(FIND_PYTHON); "$$found" -m venv --clear $(LOCKER)
	@$(LOCKER)/bin/python $(PIP) install -qq uv
	$(LOCKER)/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --group build \
	  $(LOCKED:%=--extra %) $(if $(UPGRADE),--upgrade) \
	  --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command 'make lock' \
	  --output-file requirements.lock

clean: ## remove the environment, caches, builds, and the folders of runs (var) and figures
	rm -rf $(VENV) build dist var benchmarks/out *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# Made from nothing whenever lock or project change, so that nothing stays that they do not name.
$(STAMP): requirements.lock pyproject.toml
	@$(FIND_PYTHON); \
	echo "flyball: making $(VENV) with $$("$$found" --version) from requirements.lock: downloads, a minute or two" >&2; \
	rm -rf $(VENV); \
	"$$found" -m venv $(VENV) || { \
	  rm -rf $(VENV); \
	  echo "flyball: $$found cannot make environments (Debian: package python3-venv); another: PYTHON=..." >&2; \
	  exit 1; \
	}
	@$(BIN)/python $(PIP) install -qq --require-hashes -r requirements.lock
	@$(BIN)/python $(PIP) install -qq --no-deps --no-build-isolation --no-index --editable .
	@touch $@
