# `make help` lists the targets. Everything runs in .venv, made from this repository's own files.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format check bench check-speed precision classifiers judge peers words clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## Make .venv and install the project with its test tools

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: install ## Features of the example prompts, as JSON lines
	$(BIN)/splinellm extract examples/prompts.jsonl -o -

test: install ## Run the tests
	$(BIN)/python -m pytest

lint: install ## Lint, formatting, strict types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: install ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint test ## What CI runs

bench: install ## Speed of extraction on this machine, against three yardsticks
	$(BIN)/splinellm bench

check-speed: install ## Compare the speed ratios with the committed ones
	$(BIN)/python benchmarks/check.py

precision: install ## Differences between float32 and half precision
	$(BIN)/python benchmarks/precision.py

classifiers: install ## Make the boxed classifiers anew: make classifiers DATA=folder
	$(BIN)/python -m splinellm.classifiers.build $(DATA)

judge: install ## Measure them on sources left out: make judge DATA=folder
	$(BIN)/python -m splinellm.classifiers.build $(DATA) --evaluate

peers: install ## Cost and quality beside other classifiers: make peers DATA=folder
	$(BIN)/python benchmarks/peers.py $(DATA)

words: install ## Count the words that normalisation knows: make words DATA=folder
	$(BIN)/python -m splinellm.classifiers.known_words $(DATA)

clean: ## Remove the environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage build dist
