# make help shows the targets.
PYTHON ?= python3
PYTEST_ARGS ?=
WORKERS ?= 3
BIN := .venv/bin

.PHONY: help setup demo test lint torture bench bench-growth bench-profile bench-pieces lock generate bundle clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup:  ## make .venv; as root on Debian also install PostgreSQL 15, pgbouncer and what else the tests run
	@PYTHON=$(PYTHON) bash tools/setup.sh

demo: setup  ## the whole cycle on real servers, through the composite actions, with act
	@$(BIN)/python -m tests.demo

test: setup lint  ## everything that must hold, on real servers (under 15 minutes on 2 cores)
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: setup  ## types, style, workflows
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/python -m tests.support.lint

torture: setup  ## kill, break and damage everything, and count what is lost (TORTURE_RUNS=0.1 for a quick one)
	@$(BIN)/python -m tests.torture

bench: setup  ## side by side with what users would run instead (BENCH_SCALE=0.1 for a quick one)
	@bash tools/setup-bench.sh
	@$(BIN)/python -m benchmarks.run

bench-growth: setup  ## what 1, 4 and 16 times the data and 1, 2 and 4 jobs cost
	@$(BIN)/python -m benchmarks.growth

bench-profile: setup  ## where the time goes: start, read, hash, compress, upload, load
	@$(BIN)/python -m benchmarks.profile

bench-pieces: setup  ## what the size of a page range costs
	@$(BIN)/python -m benchmarks.pieces

generate: setup  ## everything that is made from something else: schema, aliases, tables of inputs
	@$(BIN)/python -m fac_backup.policy.schema > action-matrix.schema.json
	@$(BIN)/python tools/generate_actions.py && $(BIN)/python tools/generate_format.py

bundle: setup  ## the program as one file for each Python, for tasks on Cloud Foundry
	@python3 tools/bundle.py --output dist

lock: setup  ## renew both locks with hashes
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --upgrade pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 -c requirements.lock pyproject.toml --group test -o requirements-test.lock
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 -c requirements.lock pyproject.toml --group release -o requirements-release.lock

clean:  ## remove what setup and the tests made
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build
