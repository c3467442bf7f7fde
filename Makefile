PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PHOTOGRAPHS := build/photographs
BUNDLE := models/x4-photo.caflow
WHEEL := build/wheel
DEMO := build/demo-venv
DOCS := build/docs-venv
BENCHMARK := $(BIN)/python -W ignore benchmarks
RESULTS := benchmarks/results
TEST_SETS := https://github.com/jbhuang0604/SelfExSR
THREADS := --threads 2
RUNTIME_TESTS := runtime deploy/filtering/test_calibrating.py deploy/serving/test_service.py \
    $(addprefix deploy/images/,test_alpha.py test_estimates.py test_refused_options.py test_sizes.py test_untypical.py)

.PHONY: demo setup lint docs dist test test-runtime test-full calibrate cpp quality typicality speed video completion serving paper clean

demo: $(DEMO)/.installed  ## Enlarge a photograph: draw ten samples, keep the best, and write a sheet of all samples.
	$(DEMO)/bin/caflow image docs/images/chelsea.png -o build/demo --sheet --force
	@echo "the result is build/demo/chelsea.png, all samples build/demo/chelsea-sheet.png"

$(DEMO)/.installed: pyproject.toml
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/pip install --quiet --editable '.[cpu]'
	touch $@

setup: .venv/.installed  ## Make .venv with all packages for development.

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'  # which knows dependency groups
	$(BIN)/pip install --quiet --editable '.[colorize,export,openvino,page,report,serve,video]' --group dev
	touch $@

lint: setup  ## Check style, imports, types and spelling.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	$(BIN)/typos

docs: $(DOCS)/.installed  ## Build the documentation in build/docs-site. Fails on broken links and on public names without a docstring.
	$(DOCS)/bin/python docs/generate/stage.py build/docs-source
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --config-file docs/mkdocs.yml  # without --quiet, which would not count warnings
	rm build/docs-site/404.html  # its links would need the site's address, which differs between servers
	@echo "the pages begin at build/docs-site/index.html"

$(DOCS)/.installed: pyproject.toml
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install --quiet --upgrade 'pip>=25.1'
	$(DOCS)/bin/pip install --quiet --editable . --group docs
	touch $@

dist: setup  ## Build dist/: an sdist, and a wheel from it, and check that PyPI would accept both.
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

test: setup  ## Run the tests that every change must pass.
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 3 --dist loadfile  # three processes on two cores, because some tests wait; one thread each, because threads of PyTorch would block each other

test-runtime:  ## Run the tests of the runtime in an environment without PyTorch, for example with PYTHON=python3.13.
	rm -rf $(WHEEL)
	$(PYTHON) -m venv $(WHEEL)
	$(WHEEL)/bin/pip wheel --quiet --no-deps --wheel-dir $(WHEEL) .
	$(WHEEL)/bin/pip install --quiet "$$(echo $(WHEEL)/*.whl)[cpu,video]" hypothesis pytest scipy
	cd $(WHEEL) && bin/caflow image $(CURDIR)/docs/images/chelsea.png -o enlarged -n 2
	cd $(WHEEL) && bin/pytest --config-file $(CURDIR)/pyproject.toml --confcutdir $(CURDIR)/tests $(RUNTIME_TESTS:%=$(CURDIR)/tests/%)

test-full: setup  ## Run the slow tests.
	OMP_NUM_THREADS=1 $(BIN)/pytest -m full --numprocesses 3 --dist loadfile --durations 40

train-x4-photo: $(PHOTOGRAPHS)/training  ## Train the built-in model again, in three stages. Takes hours.
	$(BIN)/pip install --quiet --editable '.[cpu,train,video]'
	$(BIN)/caflow-train x4-mean --data $< --out build/x4-mean
	$(BIN)/caflow-train x4-likelihood --data $< --out build/x4-likelihood --start build/x4-mean/last.pt
	$(BIN)/caflow-train x4-photo --data $< --out build/x4-photo --start build/x4-likelihood/last.pt
	$(BIN)/python models/release.py build/x4-photo models/x4-photo.caflow

train-x4-real: $(PHOTOGRAPHS)/training  ## Train the model for degraded inputs again, in four stages, from x4-photo. Takes about twelve hours on one core.
	$(BIN)/pip install --quiet --editable '.[cpu,train,video]'
	$(BIN)/caflow-train x4-real-estimator --data $< --out build/x4-real-estimator --start $(BUNDLE)
	$(BIN)/caflow-train x4-real-mean --data $< --out build/x4-real-mean --start build/x4-real-estimator/last.pt
	$(BIN)/caflow-train x4-real-sharp --data $< --out build/x4-real-sharp --start build/x4-real-mean/last.pt
	$(BIN)/caflow-train x4-real --data $< --out build/x4-real --start $(BUNDLE) --start build/x4-real-sharp/last.pt
	$(BIN)/python models/release.py build/x4-real models/x4-real.caflow --temperature 0.5

train-x2-video: $(PHOTOGRAPHS)/training  ## Train the ×2 model for coded videos again, in three stages. Takes some two hours on one core.
	$(BIN)/pip install --quiet --editable '.[cpu,train,video]'
	$(BIN)/caflow-train x2-mean --data $< --out build/x2-mean
	$(BIN)/caflow-train x2-likelihood --data $< --out build/x2-likelihood --start build/x2-mean/last.pt
	$(BIN)/caflow-train x2-video --data $< --out build/x2-video --start build/x2-likelihood/last.pt
	$(BIN)/python models/release.py build/x2-video models/x2-video.caflow --temperature 0

train-inpaint-photo: $(PHOTOGRAPHS)/training  ## Train a model that fills holes, in two stages. Takes some three hours on one core.
	$(BIN)/pip install --quiet --editable '.[cpu,train]'
	$(BIN)/caflow-train inpaint-sharp --data $< --out build/inpaint-sharp
	$(BIN)/caflow-train inpaint-photo --data $< --out build/inpaint-photo --start build/inpaint-sharp/last.pt
	$(BIN)/python models/release.py build/inpaint-photo models/inpaint-photo.caflow --temperature 0

train-colour-hints: $(PHOTOGRAPHS)/training  ## Train a model that colours photographs from hints, in two stages. Takes some three hours on one core.
	$(BIN)/pip install --quiet --editable '.[colorize,cpu,train]'
	$(BIN)/caflow-train colour-sharp --data $< --out build/colour-sharp
	$(BIN)/caflow-train colour-hints --data $< --out build/colour-hints --start build/colour-sharp/last.pt
	$(BIN)/python models/release.py build/colour-hints models/colour-hints.caflow --temperature 0

calibrate: $(PHOTOGRAPHS)/calibration  ## Calibrate the built-in model again, with clean photographs.
	$(BIN)/caflow calibrate $(BUNDLE) --data $< --force

cpp: setup  ## Build the C++ runtime in build/cpp, with the ONNX Runtime of .venv.
	cmake -S runtime/cpp -B build/cpp -DCAFLOW_ONNXRUNTIME_LIBRARY="$$($(BIN)/python -c 'import onnxruntime; print(*onnxruntime.__path__)')"
	cmake --build build/cpp --parallel

calibrate-%: $(PHOTOGRAPHS)/calibration $(PHOTOGRAPHS)/git-calibration  ## Calibrate a model with conditions as in its training: calibrate-x4-real or -x2-video.
	for photographs in $^; do $(BIN)/python models/calibration_pairs.py $* $$photographs build/$*-pairs || exit; done
	$(BIN)/caflow calibrate models/$*.caflow --data build/$*-pairs --force

$(PHOTOGRAPHS)/%: | setup
	$(BIN)/python models/photographs.py $* $@

quality: build/test-sets $(addprefix $(PHOTOGRAPHS)/,test training last unseen validation calibration metrics git-validation)  ## Measure the quality of the ×4 models and of other methods, on clean, degraded and hard inputs.
	$(BENCHMARK)/quality.py judge $(BUNDLE) --degradation clean --temperature 0.9 $(THREADS) --json $(RESULTS)/quality.json
	$(BENCHMARK)/quality.py judge $(BUNDLE) models/x4-real.caflow $(THREADS) --json $(RESULTS)/quality-degraded.json
	$(BENCHMARK)/quality.py sets $(BUNDLE) $(THREADS) --temperature 0.8 --temperature 0.9 --json $(RESULTS)/test-sets.json
	$(BENCHMARK)/quality.py hard $(BUNDLE) models/x4-real.caflow $(THREADS) --json $(RESULTS)/outliers-hard.json
	$(BENCHMARK)/quality.py choice $(THREADS) --json $(RESULTS)/model-choice.json

build/test-sets:  ## Download the literature's test sets for ×4, 219 pictures with their reductions.
	git clone --quiet --filter=blob:none --no-checkout $(TEST_SETS) $@
	git -C $@ sparse-checkout set --no-cone '/data/*/image_SRF_4/*_[HL]R.png'
	git -C $@ checkout --quiet 8f6dd8c1d20cb7e8792a7177b4f6fd677633f598

typicality: $(addprefix $(PHOTOGRAPHS)/,last domains test)  ## Measure which images a calibration detects, and whether samples differ enough.
	$(BENCHMARK)/typicality.py detect --photographs last $(THREADS) --json $(RESULTS)/filter-last.json
	$(BIN)/python models/calibration_pairs.py x4-real $(PHOTOGRAPHS)/last build/x4-real-last
	$(BENCHMARK)/typicality.py detect models/x4-real.caflow --pairs build/x4-real-last $(THREADS) --json $(RESULTS)/filter-x4-real.json
	$(BENCHMARK)/typicality.py coverage models/x4-real.caflow $(THREADS) --json $(RESULTS)/coverage.json

speed: cpp $(PHOTOGRAPHS)/test $(PHOTOGRAPHS)/calibration  ## Measure speed and memory: the chain, precisions, floors, C++, dropped samples, and sizes. Takes hours.
	$(BIN)/caflow-export x4-photo --precision bf16 -o build/x4-photo-bf16.caflow --force
	$(BIN)/caflow-export x4-photo --precision fp16 -o build/x4-photo-fp16.caflow --force
	$(BIN)/caflow-export x4-photo --precision int8 --data $(PHOTOGRAPHS)/calibration -o build/x4-photo-int8.caflow --force
	$(BENCHMARK)/speed.py chains $(THREADS) --model build/default.caflow --json $(RESULTS)/sampling.json
	$(BENCHMARK)/speed.py photographs $(THREADS) --json $(RESULTS)/photographs.json
	$(BENCHMARK)/speed.py progressive $(BUNDLE) --json $(RESULTS)/progressive.json
	$(BENCHMARK)/speed.py memory $(BUNDLE) --json $(RESULTS)/memory.json
	$(BENCHMARK)/speed.py precisions $(BUNDLE) $(PHOTOGRAPHS)/test --fp16 build/x4-photo-fp16.caflow --bf16 build/x4-photo-bf16.caflow --int8 build/x4-photo-int8.caflow --json $(RESULTS)/hardware.json
	$(BENCHMARK)/speed.py floors $(BUNDLE) --bf16 build/x4-photo-bf16.caflow --json $(RESULTS)/floors.json
	$(BENCHMARK)/speed.py cpp $(BUNDLE) build/cpp $(THREADS) --json $(RESULTS)/cpp.json

video: $(PHOTOGRAPHS)/clips $(PHOTOGRAPHS)/metrics  ## Measure the quality of enlarged videos, and that of other methods.
	$(BENCHMARK)/video.py $(BUNDLE) $(THREADS) --json $(RESULTS)/video.json
	$(BENCHMARK)/video.py $(BUNDLE) models/x4-real.caflow models/x2-video.caflow --crf 23 --crf 28 --frames 30 --setting "τ = 0" --setting fixed --json $(RESULTS)/video-coded.json

completion: $(addprefix $(PHOTOGRAPHS)/,test last unseen metrics)  ## Measure how well holes are filled and photographs are coloured, and other methods.
	$(BIN)/pip install --quiet --editable '.[inpaint,colorize]'
	$(BENCHMARK)/completion.py inpainting models/inpaint-photo.caflow $(THREADS) --json $(RESULTS)/inpainting.json
	$(BENCHMARK)/completion.py colorization models/colour-hints.caflow $(THREADS) --json $(RESULTS)/colorization.json

serving: setup  ## Compare the speed of workers and servers with that of one process.
	PYTHONPATH=tests/support $(BENCHMARK)/serving.py files $(BUNDLE) tests/data/photographs $(THREADS) --json $(RESULTS)/batch.json
	PYTHONPATH=tests/support $(BENCHMARK)/serving.py servers $(BUNDLE) --json $(RESULTS)/serving.json

paper: $(addprefix $(PHOTOGRAPHS)/,training validation test metrics)  ## Train and judge the families of conditional flows on the paper's tasks. Takes four hours of one core.
	PYTHONPATH=benchmarks $(BIN)/python -W ignore -m paper.families --json $(RESULTS)/paper.json

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist
