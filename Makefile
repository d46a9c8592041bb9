# xrecon: `make demo` and `make test` set everything up in .venv and run; `make help` lists the rest.
# Paths are relative and quoted, so the folder's own name may hold spaces.

PYTHON ?= python3
PYTEST_ARGS ?=
WORKERS ?= -n auto --dist loadfile
DEMO_ARGS ?=
RUN = .venv/bin/python
export PYTHON
# The commands below start many processes: without cached byte code each would compile torch anew, which takes seconds.
export PYTHONDONTWRITEBYTECODE =
export PYTHONPYCACHEPREFIX = $(CURDIR)/.venv/pycache

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint bench clean

help: ## show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' Makefile

setup: ## create .venv and install xrecon with its development tools
	@sh scripts/setup.sh

demo: ## reconstruct a chest CT from two simulated films and write the report
	@sh scripts/setup.sh --sample
	@$(RUN) -m xrecon demo --overwrite $(DEMO_ARGS)

test: setup ## the test suite (a few minutes); PYTEST_ARGS="tests/io -k nifti" runs a part
	@$(RUN) -m pytest $(WORKERS) -m "not slow" $(PYTEST_ARGS)

test-all: setup ## the test suite with the slow tests
	@$(RUN) -m pytest $(WORKERS) $(PYTEST_ARGS)

lint: setup ## ruff and mypy
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

bench: setup ## every script of benchmarks/, one after the other; fetches what they compare with, where there is a network
	@mkdir -p build
	@$(RUN) -c 'import torch; print("torch==" + torch.__version__)' > build/keep-torch.txt
	@$(RUN) -m pip --disable-pip-version-check --quiet --retries 1 --timeout 30 install --no-compile \
		--constraint build/keep-torch.txt -e '.[bench]' || \
		echo "the packages to compare with cannot be installed; the benchmarks name what is missing and go on"
	@for script in benchmarks/*.py; do echo "== $$script"; $(RUN) "$$script" || exit 1; done

clean: ## remove the environment and caches (not results)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
