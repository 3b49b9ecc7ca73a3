# `make help` lists the targets. Everything runs in .venv, made from this repository's own files.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
VLLM_BIN := .venv-vllm/bin
VLLM_STAMP := .venv-vllm/.installed

.PHONY: help install demo test lint format check bench check-speed precision classifiers judge peers words vllm clean

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
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test,peers]'
	$(BIN)/python benchmarks/peers.py $(DATA)

words: install ## Count the words that normalisation knows: make words DATA=folder
	$(BIN)/python -m splinellm.classifiers.known_words $(DATA)

vllm: $(VLLM_STAMP) ## Make .venv-vllm with vLLM's CPU build, and run its tests
	OMP_NUM_THREADS=1 $(VLLM_BIN)/python -m pytest -n 0 tests/vllm

$(VLLM_STAMP): pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv .venv-vllm
	# The file names every package that is needed, so there is nothing to resolve: that takes minutes. What
	# vLLM asks for and is not in it (pictures, sound) is of another build of torch, and nothing reads it.
	$(VLLM_BIN)/pip install --quiet --no-deps --requirement constraints-vllm.txt
	# vLLM wants transformers below 5.20 and this package's models want more; tests/vllm need neither.
	$(VLLM_BIN)/pip install --quiet --no-deps --editable .
	touch $@

clean: ## Remove the environment and caches
	rm -rf $(VENV) .venv-vllm .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage build dist
