# Everything a person does here, by name. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
IMAGES ?= demo/pictures
export PATH := $(CURDIR)/$(BIN):$(PATH)

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
	$(BIN)/pytest

bench: setup  ## how fast, beside a bare loop over the same pictures: make bench IMAGES=folder
	@$(BIN)/python -m bench.bulk $(if $(filter-out demo/pictures,$(IMAGES)),"$(IMAGES)")

compose-test: setup  ## docker-compose.yml for real: build, classify, kill, restart (needs an engine, by DOCKER_HOST)
	$(BIN)/python tests/deploy/compose_e2e.py

lock: setup  ## pin the newest versions that pyproject.toml allows
	for extra in api worker embedded; do \
	  $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	    pyproject.toml --extra $$extra --output-file requirements/$$extra.txt; done
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	  pyproject.toml --output-file requirements/client.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
	  pyproject.toml --extra embedded --group dev --output-file requirements/dev.txt
	grep --after-context 100 '^uv==' requirements/dev.txt | awk '/^[a-z]/ && !/^uv==/ {exit} {print}' > requirements/setup.txt

clean:  ## everything that make has made
	rm -rf .venv demo/pictures

.PHONY: help setup demo up lint test bench compose-test lock clean
