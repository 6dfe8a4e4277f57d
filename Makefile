# All developer commands; `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
IMAGES ?= demo/pictures
ROWS ?= 1000000
OWN_IMAGES = $(if $(filter-out demo/pictures,$(IMAGES)),--images "$(IMAGES)")
PYTEST = $(BIN)/pytest --dist loadgroup --no-loadscope-reorder
# A test that fails on a machine without CPU time to spare runs again, except the soak: an image lost once is lost. The
# summary shows each such test with its traceback; more than a dozen of them fail the run.
RERUNS = --reruns 2 --reruns-delay 5 --rerun-exclude-path tests/soak --max-suite-reruns 12 --rerun-show-tracebacks
export PATH := $(CURDIR)/$(BIN):$(PATH)
# The tests start hundreds of processes: without cached bytecode each of them would compile torch again, for seconds.
unexport PYTHONDONTWRITEBYTECODE

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: .venv/ready  ## create .venv with every dependency pinned (quick to repeat)

.venv/ready: requirements/setup.txt requirements/dev.txt pyproject.toml sortbelt/version.py
	@echo 'Setting up .venv: every dependency pinned by version and hash …'
	@$(PYTHON) -c 'import sys; sys.exit("Sortbelt needs Python 3.11 to 3.13, not " + sys.version.split()[0] + "; say make PYTHON=python3.12 …") if not (3, 11) <= sys.version_info < (3, 14) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/setup.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup  ## classify a folder on a local stack: make demo, or make demo IMAGES=~/Pictures
	@$(BIN)/python docs/examples/demo.py "$(IMAGES)"

up: setup  ## run Redis, the API, a worker and the dispatcher on this machine, with SQLite, until ctrl-C
	@$(BIN)/sortbelt up

lint: setup  ## ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

check: lint  ## lint and unit tests without whole trainings, in a minute or two
	$(PYTEST) -n 2 -m 'not slow' tests/unit

test: setup  ## lint and every test, against real Redis, SQLite and PostgreSQL, with coverage
	@$(MAKE) --no-print-directory -j2 lint bytecode
	$(PYTEST) -n 3 $(RERUNS) --cov

# Linting uses one core. Meanwhile this compiles the bytecode that the processes of the tests would else compile each.
bytecode: setup
	@$(PYTEST) --collect-only -qq >/dev/null 2>&1 || true

.venv-bench/ready: .venv/ready requirements/bench.txt
	@echo 'Setting up .venv-bench: the other servers, pinned by version and hash …'
	@test -x .venv-bench/bin/python || $(BIN)/python -m venv .venv-bench
	@$(BIN)/uv pip install --quiet --python .venv-bench/bin/python --require-hashes -r requirements/bench.txt
	@touch $@

soak: setup  ## inject faults while images are submitted: make soak IMAGES=100000 FAULTS=210 MINUTES=30 SEED=1 OUT=soak HOSTILE=1
	@$(BIN)/python -m tests.soak --images $(if $(filter-out demo/pictures,$(IMAGES)),$(IMAGES),100000) \
	  --faults $(or $(FAULTS),210) --minutes $(or $(MINUTES),30) --seed $(or $(SEED),1) --out $(or $(OUT),soak) $(if $(HOSTILE),--hostile)

fuzz: setup  ## feed mutated images to the decoder, for MINUTES=10
	@$(BIN)/python -m tests.fuzz $(or $(MINUTES),10)

bench: setup .venv-bench/ready  ## compare with other servers, 3 rounds: make bench, or make bench IMAGES=folder
	@$(BIN)/python -m benchmarks $(OWN_IMAGES)

bench-quick: setup  ## one short round, to see that every benchmark runs
	@$(BIN)/python -m benchmarks --quick $(OWN_IMAGES)

bench-growth: setup  ## time the same queries at 0 rows and at a million; ROWS="1000000 10000000" for more
	@$(BIN)/python -m benchmarks.growth --rows $(ROWS)

bench-memory: setup  ## check that worker and API do not grow over 100,000 images
	@$(BIN)/python -m benchmarks.memory

bench-watchers: setup  ## throughput while 200 clients poll and 50 follow events
	@$(BIN)/python -m benchmarks.watchers

bench-profile: setup .venv-bench/ready  ## CPU profile per image, by function
	@$(BIN)/python -m benchmarks.cpu_profile $(OWN_IMAGES)

bench-ingest: setup  ## CPU of the API per image, in microseconds
	@$(BIN)/python -m benchmarks.ingest_cpu $(OWN_IMAGES)

bench-gpu: setup  ## throughput on this machine's GPU, and its utilization
	@$(BIN)/python -m benchmarks.gpu $(OWN_IMAGES)

compose-test: setup  ## run docker-compose.yml: build, classify, kill, restart (needs a Docker engine at DOCKER_HOST)
	$(BIN)/python tests/deploy/compose_e2e.py

lock: setup  ## pin the newest versions that pyproject.toml allows
	for extra in api worker embedded; do \
	  $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	    pyproject.toml --extra $$extra --extra otel --output-file requirements/$$extra.txt; done
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	  pyproject.toml --output-file requirements/client.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	  pyproject.toml --extra embedded --extra frames --extra otel --extra train --group dev --output-file requirements/dev.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	  pyproject.toml --extra worker --group bench --constraint requirements/dev.txt --output-file requirements/bench.txt
	grep --after-context 100 '^uv==' requirements/dev.txt | awk '/^[a-z]/ && !/^uv==/ {exit} {print}' > requirements/setup.txt

clean:  ## delete everything that make has created
	rm -rf .venv .venv-bench demo/pictures benchmarks/out .coverage*

.PHONY: help setup demo up lint check test bytecode soak fuzz bench bench-quick bench-growth bench-memory bench-watchers bench-profile bench-ingest bench-gpu compose-test lock clean
