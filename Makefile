PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DEMO := build/x4-demo.caflow

.PHONY: demo setup lint test test-full benchmarks clean

demo: $(DEMO)/manifest.json  ## Upscale a photograph: the best of ten samples, their likelihoods, and a sheet of all.
	$(BIN)/caflow image models/x4-demo/chelsea.png -o build/demo --bundle $(DEMO) --sheet --force
	@echo "a small model, trained for minutes: the result is build/demo/chelsea.png, all samples build/demo/chelsea-sheet.png"

$(DEMO)/manifest.json: .venv/.installed models/x4-demo/model.pt
	$(BIN)/caflow-export models/x4-demo/model.pt -o $(DEMO) --force

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

benchmarks: $(DEMO)/manifest.json  ## Measure again and keep the figures.
	$(BIN)/python -W ignore benchmarks/training_step.py --json benchmarks/results/training_step.json
	$(BIN)/python -W ignore benchmarks/sampling.py --threads 2 --json benchmarks/results/sampling.json
	$(BIN)/python benchmarks/runtime.py $(DEMO) --threads 2 --json benchmarks/results/runtime.json
	$(BIN)/python benchmarks/progressive.py $(DEMO) --json benchmarks/results/progressive.json
	$(BIN)/python benchmarks/tiles.py $(DEMO) --picture benchmarks/results/tiles.png --json benchmarks/results/tiles.json

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist
