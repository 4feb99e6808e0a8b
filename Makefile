# SPDX-License-Identifier: Apache-2.0
# Everything runs in .venv, which sets itself up: Python 3.11+ with venv and make are all that is needed.
# What must pass stops at the first failure; every figure of a bench is a line of JSON.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := src tests demo bench tools
T ?= tests
N ?= auto

.DEFAULT_GOAL := help
.PHONY: help setup fmt check test test-crash demo bench bench-engine bench-protection bench-repository \
	bench-serve simulate soak run docs clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | awk -F'\t' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: $(READY) ## make .venv with everything pinned in requirements.txt

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Seawall needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

fmt: $(READY) ## format the code and mend what can be mended
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

check: $(READY) ## the gate: format, lint, imports, sizes, types and the quick tests; under a minute
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/sizes.py src
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n $(N) -m "not slow" -k "not postgresql" tests/core tests/db tests/runtime tests/api tests/architecture tests/contract

test: $(READY) ## every test; T=path for some, TEST_SERVERS=restic,... says which programs must be there
	$(BIN)/python -m pytest -q -n $(N) $(T)

test-crash: $(READY) ## the kill matrix alone
	$(BIN)/python -m pytest -q -n $(N) tests/crash

demo: $(READY) ## the main job on real files, killed half way; DIR=... chooses the files, KEEP=1 stays up
	$(BIN)/python -m demo.run

bench: bench-serve bench-engine bench-protection bench-repository ## every figure, one line of JSON each

bench-engine: $(READY) ## claims, bursts, a million triggers, due times, executors; some eight minutes
	@$(BIN)/python -m bench.engine
	@$(BIN)/python -m bench.schedules
	@$(BIN)/python -m bench.executors

bench-protection: $(READY) ## a small backup through the running service
	@$(BIN)/python -m bench.protection

bench-repository: $(READY) ## CPU and memory of a mover beside restic
	@$(BIN)/python -m bench.repository

bench-serve: $(READY) ## start, idle CPU, idle memory
	@$(BIN)/python -m bench.serve

simulate: $(READY) ## a year of a thousand schedules on a fake clock, against brute force; some minutes
	$(BIN)/python -m tools.simulate

soak: $(READY) ## engines and workers killed at random; MINUTES=n; every due time is accounted for once
	$(BIN)/python -m tools.soak $(or $(MINUTES),10)

run: $(READY) ## seawall serve on the data folder of this user
	$(BIN)/seawall serve

docs: $(READY) ## write the generated pages anew
	$(BIN)/python tools/generated_docs.py

clean: ## remove the environment and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
