PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: setup lint test test-full benchmarks clean

setup: .venv/.installed  ## Make .venv with everything for development.

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev,tensorboard,benchmark]'
	touch $@

lint: setup  ## Style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: setup  ## The tests that every change runs.
	$(BIN)/pytest

test-full: setup  ## What takes longer.
	$(BIN)/pytest -m full

benchmarks: setup  ## Measure again and keep the figures.
	$(BIN)/python -W ignore benchmarks/training_step.py --json benchmarks/results/training_step.json
	$(BIN)/python -W ignore benchmarks/sampling.py --threads 2 --json benchmarks/results/sampling.json

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache dist
