# `make demo` and `make test` need nothing but Python 3.11 or newer: they make the environment (.venv) by themselves.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help env demo test lint types imports public-types format slow torture soak instructions bench bench-quick bench-plots readme clean

PYTHON ?=
export PYTHON
BIN := .venv/bin
TYPED := src $(wildcard benchmarks) tests/torture
CHECKED := src tests $(wildcard benchmarks examples scripts/*.py)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

env: ## make or renew the environment for development (.venv)
	@scripts/environment dev

demo: ## see it work: a chat bot before and after, about 20 seconds (ARGS="--seconds 4" for options)
	@scripts/environment cli
	@$(BIN)/millpond demo $(ARGS)

test: ## everything that must hold: lint, types, imports, tests with coverage
	@scripts/environment dev
	@$(MAKE) --no-print-directory lint types imports
	@$(BIN)/pytest --cov --cov-report=term $(ARGS)

lint: ## ruff: rules and format
	@scripts/environment dev
	@$(BIN)/ruff check $(CHECKED)
	@$(BIN)/ruff format --check $(CHECKED)

types: ## mypy, strict
	@scripts/environment dev
	@$(BIN)/mypy $(TYPED)

imports: ## the layers of the house
	@scripts/environment dev
	@$(BIN)/lint-imports --no-logo

public-types: ## pyright: are all public names typed for users?
	@scripts/environment dev
	@PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes millpond --ignoreexternal

format: ## let ruff write what it can
	@scripts/environment dev
	@$(BIN)/ruff check --fix $(CHECKED)
	@$(BIN)/ruff format $(CHECKED)

slow: ## the tests that take longer: faults, kills, real files
	@scripts/environment dev
	@$(BIN)/pytest -m slow --timeout 600 $(ARGS)

torture: ## kill -9, power cuts, faults, cancels, races, hostile files (ARGS="--minutes 10", "crash --case 7")
	@scripts/environment dev
	@$(BIN)/python -m tests.torture $(ARGS)

soak: ## ten minutes of a chat service's work: does memory grow?
	@scripts/environment dev
	@$(BIN)/python -m benchmarks.soak $(ARGS)

instructions: ## instructions per call of the hot paths, beside the recorded ones (ARGS=--record renews those)
	@scripts/environment dev
	@$(BIN)/python scripts/instructions.py $(ARGS)

bench: ## all benchmarks, side by side with other libraries, in ten minutes; writes benchmarks/out/*.json
	@scripts/environment dev
	@$(BIN)/python -m benchmarks $(ARGS)

bench-quick: ## the same in a minute, for a first look; writes benchmarks/out/quick/*.json
	@scripts/environment dev
	@$(BIN)/python -m benchmarks --quick $(ARGS)

bench-plots: ## pictures and tables of docs/benchmarks, from what `make bench` wrote
	@scripts/environment dev
	@$(BIN)/python scripts/plots.py

readme: ## the README's picture and figures, from a run made now and from what `make bench` wrote
	@scripts/environment dev
	@$(BIN)/python scripts/readme.py

clean: ## remove what was made: environment, caches, results
	@rm -rf .venv build dist benchmarks/out .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} + ; rm -rf src/*.egg-info
