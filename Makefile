# `make demo` and `make test` are the two commands; each sets up what it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp

.PHONY: help setup demo test check sim bench bench-long bench-parts clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Headrace needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 ...")'
	@echo "setting up $(VENV) (a minute or two the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/python -m executor.kernels
	@$(BIN)/python -m chain.crypto.ed25519_lanes
	@$(BIN)/python -m chain.crypto.secp256k1_lanes
	@touch $(STAMP)

setup: $(STAMP) ## make the environment in .venv, with the headrace command in it

demo: setup ## four organisations, real data, one node killed and back: under three minutes
	@$(BIN)/headrace demo

check: setup ## ruff, mypy --strict, import linter
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

test: check ## all checks and tests, under ten minutes on two cores
	@$(BIN)/python -m pytest -n 2

sim: setup ## the long simulations: consensus, whole nodes, twins, ten thousand random blocks, planted bugs
	@$(BIN)/headrace sim --core --seeds 0..2000 --nodes 4,7
	@$(BIN)/headrace sim --whole --seeds 0..300 --nodes 4,7,10
	@$(BIN)/python -m chain.sim.twins --minutes 15 --workers 2
	@$(BIN)/python -m chain.sim.explore --minutes 4
	@$(BIN)/python -m tests.sim.twins.planted --count 3000 --agreement 0 --workers 2
	@$(BIN)/python -m tests.signatures --count 1000000
	@$(BIN)/python -m tests.signatures --scheme secp256k1 --count 1000000
	@$(BIN)/python -m tests.blocks --blocks 10000 --workers 2
	@$(BIN)/python -m tests.blocks.planted --workers 2

bench: setup ## the published plans, cut short: results, report and docs/benchmarks.md, in about 20 minutes
	@$(BIN)/headrace bench publish --into docs/benchmarks.md

bench-long: setup ## the same in full, every repeat, and a million transactions: over two hours
	@$(BIN)/headrace bench publish --full --into docs/benchmarks.md

bench-parts: setup ## micro benchmarks of the parts, parallel against serial execution: about ten minutes
	@$(BIN)/python -m pytest bench/micro --benchmark-enable --benchmark-only -p no:xdist \
		--benchmark-json bench/results/micro.json
	@$(BIN)/headrace bench execute --workload all --repeats 1 --output bench/results --plot bench/results/execute.png

clean: ## remove the environment and caches
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
