# Every target sets up what it needs in $(VENV); a second call installs nothing.
PYTHON ?= python3
VENV ?= .venv
TL39 ?= $(VENV)-tl39
OUT ?= demo-report
ARGS ?=

BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

# One thread per worker: two processes of two threads each slow each other down many times over on two cores. A module's
# tests share the networks that they train, and stay in one worker; tests/conftest.py says in which order they are begun.
# The tests end when a worker dies: with one in its place pytest-xdist can wait for ever on those that it gives out again.
TESTS = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder --max-worker-restart 0

# What depends on how hooks are put into a network and read from it, without the checks of shapes.
TESTS_TL39 := tests/models/hooks tests/models/reading tests/interventions \
  tests/models/networks/test_lens_models.py tests/models/networks/test_checkpoints.py
UNCHECKED := --strict-markers --strict-config -q --import-mode=importlib

.DEFAULT_GOAL := help
.PHONY: help demo test test-all fast-tests all-tests test-tl39 lint held-lint docs site bench clean
.DELETE_ON_ERROR:

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s%s\n", $$1, $$2 }' Makefile
	@echo "Variables: PYTHON=$(PYTHON) VENV=$(VENV) TL39=$(TL39) OUT=$(OUT) ARGS=\"more arguments\""

demo: $(VENV)/.stamp-mechmem ## train two networks on wrong labels, audit them, write a report to OUT
	$(BIN)/mechmem demo --out $(OUT) $(ARGS)

test: $(VENV)/.stamp-test ## the tests that take under 2 s of CPU each; beside them linters, type checker and import layers
	@$(MAKE) --no-print-directory -j2 fast-tests held-lint

test-all: $(VENV)/.stamp-test ## every test, and the same beside them
	@$(MAKE) --no-print-directory -j2 all-tests held-lint

# What is listed at its end should be marked slow, or made smaller.
fast-tests:
	$(TESTS) -m "not slow" --durations=10 --durations-min=3 $(ARGS)

all-tests:
	$(TESTS) $(ARGS)

# What lint says comes in one piece, so that it can be read between the dots of the tests.
held-lint:
	@said=$$(mktemp); $(MAKE) --no-print-directory lint >$$said 2>&1; status=$$?; echo; cat $$said; rm -f $$said; exit $$status

# HookedTransformer is in transformer_lens 3 only, and in an environment there can be one of the two.
test-tl39: $(TL39)/.stamp-test ## the tests of hooks once more, on transformer_lens 3.9, in an environment of its own
	OMP_NUM_THREADS=1 $(TL39)/bin/python -m pytest -n 2 --max-worker-restart 0 -p no:cacheprovider \
	  -o addopts="$(UNCHECKED)" -m "not slow" $(TESTS_TL39) $(ARGS)

lint: $(VENV)/.stamp-test ## linters, type checker and import layers alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

docs: $(VENV)/.stamp-docs ## build the documentation, warnings as errors, into docs/_build/html
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -E -W --keep-going -n -b html docs docs/_build/html $(ARGS)

site: $(VENV)/.stamp-test ## open every page of the documentation in Chromium, and follow its links, after make docs
	$(BIN)/python tests/support/site_check.py docs/_build/html

bench: $(VENV)/.stamp-mechmem ## print speed ratios; nothing else should be running
	$(BIN)/python tests/benchmarks/run.py $(ARGS)

clean: ## remove what these targets made: environment, caches, builds, demo report
	if [ -e $(VENV)/.stamp-venv ]; then rm -rf $(VENV); fi
	if [ -e $(TL39)/.stamp-test ]; then rm -rf $(TL39); fi
	rm -rf demo-report docs/_build docs/gallery build dist mechmem.egg-info
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

# It sees the packages of the first environment, and holds what transformer_lens 3.9 must have otherwise: no second torch.
SITE_PACKAGES = -c "import sysconfig; print(sysconfig.get_path('purelib'))"
$(TL39)/.stamp-test: $(VENV)/.stamp-test constraints-tl39.txt
	$(BIN)/python -m venv --clear --without-pip $(TL39)
	$(BIN)/python $(SITE_PACKAGES) >"$$($(TL39)/bin/python $(SITE_PACKAGES))/first.pth"
	$(TL39)/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -c constraints-tl39.txt transformer_lens
	@touch $@

$(VENV)/.stamp-docs: $(VENV)/.stamp-venv pyproject.toml constraints.txt
	$(INSTALL) -e ".[docs]"
	@touch $@ $(VENV)/.stamp-mechmem
