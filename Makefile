# Every target sets up what it needs in $(VENV); a second call installs nothing.
PYTHON ?= python3
VENV ?= .venv
TL39 ?= $(VENV)-tl39
OUT ?= demo-report
ARGS ?=

BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

TESTS_TL39 := tests/models tests/interventions tests/neurons tests/core/test_roles.py

.DEFAULT_GOAL := help
.PHONY: help demo test test-tl39 lint docs bench clean
.DELETE_ON_ERROR:

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s%s\n", $$1, $$2 }' Makefile
	@echo "Variables: PYTHON=$(PYTHON) VENV=$(VENV) TL39=$(TL39) OUT=$(OUT) ARGS=\"more arguments\""

demo: $(VENV)/.stamp-mechmem ## train two networks on wrong labels, audit them, write a report to OUT
	$(BIN)/mechmem demo --out $(OUT) $(ARGS)

# One thread per worker: two processes of two threads each slow each other down many times over on two cores.
test: lint ## linters, type checker, import layers, then the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(ARGS)

# HookedTransformer is in transformer_lens 3 only, and in an environment there can be one of the two.
test-tl39: $(TL39)/.stamp-test ## the tests of hooked models once more, on transformer_lens 3.9, in an environment of its own
	OMP_NUM_THREADS=1 $(TL39)/bin/python -m pytest -n 2 -p no:cacheprovider $(TESTS_TL39) $(ARGS)

lint: $(VENV)/.stamp-test ## linters, type checker and import layers alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

docs: $(VENV)/.stamp-docs ## build the documentation, warnings as errors, into docs/_build/html
	$(BIN)/python -m sphinx -E -W --keep-going -n -b html docs docs/_build/html $(ARGS)

bench: $(VENV)/.stamp-mechmem ## print speed ratios; nothing else should be running
	$(BIN)/python tests/benchmarks/run.py $(ARGS)

clean: ## remove what these targets made: environment, caches, builds, demo report
	if [ -e $(VENV)/.stamp-venv ]; then rm -rf $(VENV); fi
	if [ -e $(TL39)/.stamp-test ]; then rm -rf $(TL39); fi
	rm -rf demo-report docs/_build build dist mechmem.egg-info
	rm -rf .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/.stamp-venv:
	@$(PYTHON) -c "" 2>/dev/null || { echo "$(PYTHON) does not run; choose another: make $(MAKECMDGOALS) PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c "import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else \
	  'mechmem needs Python 3.11 or newer, and $(PYTHON) is %d.%d; name another: make $(MAKECMDGOALS) PYTHON=python3.12' % v[:2])"
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.stamp-mechmem: $(VENV)/.stamp-venv pyproject.toml constraints.txt
	$(INSTALL) -e .
	@touch $@

$(VENV)/.stamp-test: $(VENV)/.stamp-venv pyproject.toml constraints.txt
	$(INSTALL) -e ".[test]"
	@touch $@ $(VENV)/.stamp-mechmem

$(TL39)/.stamp-test: pyproject.toml constraints.txt constraints-tl39.txt
	$(PYTHON) -m venv $(TL39)
	$(TL39)/bin/python -m pip install --disable-pip-version-check -c constraints.txt -c constraints-tl39.txt \
	  -e . beartype hypothesis pytest pytest-xdist
	@touch $@

$(VENV)/.stamp-docs: $(VENV)/.stamp-venv pyproject.toml constraints.txt
	$(INSTALL) -e ".[docs]"
	@touch $@ $(VENV)/.stamp-mechmem
