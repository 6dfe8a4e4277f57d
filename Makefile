# Everything a person does here, by name. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
IMAGES ?= demo/pictures
ROWS ?= 1000000
OWN_IMAGES = $(if $(filter-out demo/pictures,$(IMAGES)),--images "$(IMAGES)")
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Hundreds of processes are started here: without kept bytecode each would compile torch anew, for seconds.
unexport PYTHONDONTWRITEBYTECODE

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: .venv/ready  ## a virtual environment with everything pinned (done once; quick to repeat)

.venv/ready: requirements/setup.txt requirements/dev.txt pyproject.toml
	@echo 'Setting up .venv: everything pinned by version and hash …'
	@$(PYTHON) -c 'import sys; sys.exit("Sortbelt needs Python 3.11 to 3.13, not " + sys.version.split()[0] + "; say make PYTHON=python3.12 …") if not (3, 11) <= sys.version_info < (3, 14) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/setup.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup  ## classify a folder through the whole way: make demo, or make demo IMAGES=~/Pictures
	@$(BIN)/python docs/examples/demo.py "$(IMAGES)"

up: setup  ## everything on this machine, until ctrl-C: Redis, SQLite, worker, API
	@$(BIN)/sortbelt up

lint: setup  ## what the tools say: ruff, mypy, the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: lint  ## every check and every test, against real Redis, SQLite and PostgreSQL
	$(BIN)/pytest -n 3

.venv-bench/ready: .venv/ready requirements/bench.txt
	@echo 'Setting up .venv-bench: the peers, pinned by version and hash …'
	@test -x .venv-bench/bin/python || $(BIN)/python -m venv .venv-bench
	@$(BIN)/uv pip install --quiet --python .venv-bench/bin/python --require-hashes -r requirements/bench.txt
	@touch $@

soak: setup  ## everything is hurt while pictures come in: make soak IMAGES=100000 FAULTS=210 MINUTES=30 SEED=1 OUT=soak
	@$(BIN)/python -m tests.soak --images $(if $(filter-out demo/pictures,$(IMAGES)),$(IMAGES),100000) \
	  --faults $(or $(FAULTS),210) --minutes $(or $(MINUTES),30) --seed $(or $(SEED),1) --out $(or $(OUT),soak)

fuzz: setup  ## mutated pictures at the decoder's door, for MINUTES=10
	@$(BIN)/python -m tests.fuzz $(or $(MINUTES),10)

bench: setup .venv-bench/ready  ## everything side by side, 3 rounds: make bench, or make bench IMAGES=folder
	@$(BIN)/python -m bench $(OWN_IMAGES)

bench-quick: setup  ## one short round of it, which shows that all works
	@$(BIN)/python -m bench --quick $(OWN_IMAGES)

bench-growth: setup  ## the same questions at 0 rows and at a million; ROWS="1000000 10000000" for more
	@$(BIN)/python -m bench.growth --rows $(ROWS)

bench-memory: setup  ## whether worker and API stay as they are over 100,000 pictures
	@$(BIN)/python -m bench.memory

bench-watchers: setup  ## what 200 who poll and 50 who follow events cost those who classify
	@$(BIN)/python -m bench.watchers

bench-stages: setup .venv-bench/ready  ## where a picture's time goes, in microseconds
	@$(BIN)/python -m bench.stages $(OWN_IMAGES)

bench-door: setup  ## what a picture costs the API, in microseconds of its CPU
	@$(BIN)/python -m bench.door $(OWN_IMAGES)

bench-gpu: setup  ## how fast on the GPU of this machine, and what part of it that is
	@$(BIN)/python -m bench.gpu $(OWN_IMAGES)

compose-test: setup  ## docker-compose.yml for real: build, classify, kill, restart (needs an engine, by DOCKER_HOST)
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

clean:  ## everything that make has made
	rm -rf .venv .venv-bench demo/pictures bench/out

.PHONY: help setup demo up lint test soak fuzz bench bench-quick bench-growth bench-memory bench-watchers bench-stages bench-door bench-gpu compose-test lock clean
