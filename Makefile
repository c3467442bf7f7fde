PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PHOTOGRAPHS := build/photographs
BUNDLE := models/x4-photo.caflow
WHEEL := build/wheel
DEMO := build/demo-venv
DOCS := build/docs-venv
RUNTIME_TESTS := runtime deploy/filtering/test_calibrating.py deploy/serving/test_service.py \
    $(addprefix deploy/images/,test_alpha.py test_estimates.py test_refused_options.py test_sizes.py test_untypical.py)

.PHONY: demo setup lint docs dist test test-runtime test-full calibrate cpp benchmarks quality model-choice hardware sheets video filter completion memory scale clean

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
	$(BIN)/pip install --quiet --editable '.[dev,tensorboard,benchmark]'
	touch $@

lint: setup  ## Check style, imports, types, spelling and wording.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	$(BIN)/typos
	$(BIN)/python docs/generate/wording.py

docs: $(DOCS)/.installed  ## Build the documentation in build/docs-site. Fails on broken links and on public names without a docstring.
	$(DOCS)/bin/python docs/generate/stage.py build/docs-source
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --config-file docs/mkdocs.yml  # without --quiet, which would not count warnings
	rm build/docs-site/404.html  # its links would need the site's address, which differs between servers
	@echo "the pages begin at build/docs-site/index.html"

$(DOCS)/.installed: pyproject.toml
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install --quiet --editable '.[docs]'
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
	cd $(WHEEL) && bin/caflow image $(CURDIR)/docs/images/chelsea.png -o enlarged --samples 2
	cd $(WHEEL) && bin/pytest --config-file $(CURDIR)/pyproject.toml --confcutdir $(CURDIR)/tests $(RUNTIME_TESTS:%=$(CURDIR)/tests/%)

test-full: setup  ## Run the slow tests.
	OMP_NUM_THREADS=1 $(BIN)/pytest -m full --numprocesses 3 --dist loadfile --durations 40

train-x4-photo: $(PHOTOGRAPHS)/training  ## Train the built-in model again, in three stages. Takes hours.
	$(BIN)/pip install --quiet --editable '.[finetune,video]'
	$(BIN)/caflow-train x4-mean --data $< --out build/x4-mean
	$(BIN)/caflow-train x4-likelihood --data $< --out build/x4-likelihood --start build/x4-mean/last.pt
	$(BIN)/caflow-train x4-photo --data $< --out build/x4-photo --start build/x4-likelihood/last.pt
	$(BIN)/python models/release.py build/x4-photo models/x4-photo.caflow

train-x4-real: $(PHOTOGRAPHS)/training  ## Train the model for degraded inputs again, in four stages, from x4-photo. Takes about twelve hours on one core.
	$(BIN)/pip install --quiet --editable '.[finetune,video]'
	$(BIN)/caflow-train x4-real-estimator --data $< --out build/x4-real-estimator --start $(BUNDLE)
	$(BIN)/caflow-train x4-real-mean --data $< --out build/x4-real-mean --start build/x4-real-estimator/last.pt
	$(BIN)/caflow-train x4-real-sharp --data $< --out build/x4-real-sharp --start build/x4-real-mean/last.pt
	$(BIN)/caflow-train x4-real --data $< --out build/x4-real --start $(BUNDLE) --start build/x4-real-sharp/last.pt
	$(BIN)/python models/release.py build/x4-real models/x4-real.caflow --temperature 0.5

train-x2-video: $(PHOTOGRAPHS)/training  ## Train the ×2 model for coded videos again, in three stages. Takes some two hours on one core.
	$(BIN)/pip install --quiet --editable '.[finetune,video]'
	$(BIN)/caflow-train x2-mean --data $< --out build/x2-mean
	$(BIN)/caflow-train x2-likelihood --data $< --out build/x2-likelihood --start build/x2-mean/last.pt
	$(BIN)/caflow-train x2-video --data $< --out build/x2-video --start build/x2-likelihood/last.pt
	$(BIN)/python models/release.py build/x2-video models/x2-video.caflow --temperature 0

train-inpaint-photo: $(PHOTOGRAPHS)/training  ## Train a model that fills holes, in two stages. Takes some three hours on one core.
	$(BIN)/pip install --quiet --editable '.[finetune,inpaint]'
	$(BIN)/caflow-train inpaint-sharp --data $< --out build/inpaint-sharp
	$(BIN)/caflow-train inpaint-photo --data $< --out build/inpaint-photo --start build/inpaint-sharp/last.pt
	$(BIN)/python models/release.py build/inpaint-photo models/inpaint-photo.caflow --temperature 0

train-colour-hints: $(PHOTOGRAPHS)/training  ## Train a model that colours photographs from hints, in two stages. Takes some three hours on one core.
	$(BIN)/pip install --quiet --editable '.[finetune,colorize]'
	$(BIN)/caflow-train colour-sharp --data $< --out build/colour-sharp
	$(BIN)/caflow-train colour-hints --data $< --out build/colour-hints --start build/colour-sharp/last.pt
	$(BIN)/python models/release.py build/colour-hints models/colour-hints.caflow --temperature 0

calibrate: $(PHOTOGRAPHS)/calibration  ## Calibrate the built-in model again, with clean photographs.
	$(BIN)/caflow calibrate $(BUNDLE) --data $< --force

cpp: setup  ## Build the C++ runtime in build/cpp, with the ONNX Runtime of .venv.
	cmake -S runtime/cpp -B build/cpp -DCAFLOW_ONNXRUNTIME_LIBRARY="$$($(BIN)/python -c 'import onnxruntime; print(*onnxruntime.__path__)')"
	cmake --build build/cpp --parallel

calibrate-%: $(PHOTOGRAPHS)/calibration  ## Calibrate a model with conditions as in its training: calibrate-x4-real, -x2-video, -inpaint-photo or -colour-hints.
	$(BIN)/python models/calibration_pairs.py $* $< build/$*-pairs
	$(BIN)/caflow calibrate models/$*.caflow --data build/$*-pairs --force

$(PHOTOGRAPHS)/%: | setup
	$(BIN)/python models/photographs.py $* $@

benchmarks: setup cpp  ## Measure speed again, and store the figures in benchmarks/results.
	$(BIN)/python -W ignore benchmarks/training_step.py --json benchmarks/results/training_step.json
	$(BIN)/python -W ignore benchmarks/sampling.py --threads 2 --bundle build/default.caflow --json benchmarks/results/sampling.json
	$(BIN)/python -W ignore benchmarks/floors.py build/default.caflow --samples 10 --json benchmarks/results/floors-default.json
	$(BIN)/python benchmarks/runtime.py $(BUNDLE) --threads 2 --json benchmarks/results/runtime.json
	$(BIN)/python benchmarks/cpp.py run $(BUNDLE) build/cpp --threads 2 --json benchmarks/results/cpp.json
	$(BIN)/python benchmarks/progressive.py $(BUNDLE) --json benchmarks/results/progressive.json
	$(BIN)/python benchmarks/tiles.py $(BUNDLE) --picture benchmarks/results/tiles.jpg --json benchmarks/results/tiles.json

quality: $(PHOTOGRAPHS)/test $(PHOTOGRAPHS)/training $(PHOTOGRAPHS)/last $(PHOTOGRAPHS)/unseen $(PHOTOGRAPHS)/validation $(PHOTOGRAPHS)/metrics  ## Measure the quality of the built-in models and of other methods, on clean and degraded photographs.
	$(BIN)/caflow-export x4-photo --precision fp16 -o build/x4-photo-fp16.caflow --force
	$(BIN)/python -W ignore benchmarks/quality.py $(BUNDLE) --threads 2 --json benchmarks/results/quality.json
	$(BIN)/python -W ignore benchmarks/quality.py $(BUNDLE) models/x4-real.caflow --side 256 --choose each --threads 2 --json benchmarks/results/quality-degraded.json
	$(BIN)/python -W ignore benchmarks/quality.py models/x4-real.caflow --kind training --photographs 24 --side 256 --degradation jpeg75 --degradation noise5-jpeg75 --degradation blur3 --peer "real-esrgan x4plus" --temperature 0.5 --threads 2 --json benchmarks/results/quality-training.json
	$(BIN)/python -W ignore benchmarks/coverage.py models/x4-real.caflow --threads 2 --json benchmarks/results/coverage.json
	$(BIN)/python -W ignore benchmarks/quality.py build/x4-photo-fp16.caflow --degradation clean --peer bicubic --threads 2 --json benchmarks/results/quality-fp16.json
	$(BIN)/python -W ignore benchmarks/outliers.py $(BUNDLE) --only "photographs, halved" --samples 105 --temperature 0.8 --temperature 0.9 --temperature 1 --threads 2 --json benchmarks/results/outliers.json
	$(BIN)/python -W ignore benchmarks/outliers.py $(BUNDLE) models/x4-real.caflow --threads 2 --json benchmarks/results/outliers-hard.json
	$(BIN)/python -W ignore benchmarks/sizes.py $(BUNDLE) --threads 2 --json benchmarks/results/sizes.json
	$(BIN)/python -W ignore benchmarks/passes.py $(BUNDLE) models/x2-video.caflow --json benchmarks/results/passes.json

model-choice: $(PHOTOGRAPHS)/validation $(PHOTOGRAPHS)/calibration $(PHOTOGRAPHS)/metrics  ## Measure which of the ×4 models is better for which image, and which one is chosen.
	$(BIN)/python -W ignore benchmarks/model_choice.py --json benchmarks/results/model-choice.json

hardware: $(PHOTOGRAPHS)/test $(PHOTOGRAPHS)/calibration  ## Measure the speed of the built-in models in each precision, in ONNX Runtime and OpenVINO, and the floors of their times.
	$(BIN)/caflow-export x4-photo --precision bf16 -o build/x4-photo-bf16.caflow --force
	$(BIN)/caflow-export x4-photo --precision fp16 -o build/x4-photo-fp16.caflow --force
	$(BIN)/caflow-export x4-photo --precision int8 --data $(PHOTOGRAPHS)/calibration -o build/x4-photo-int8.caflow --force
	$(BIN)/python -W ignore benchmarks/hardware.py $(BUNDLE) $(PHOTOGRAPHS)/test --fp16 build/x4-photo-fp16.caflow --bf16 build/x4-photo-bf16.caflow --int8 build/x4-photo-int8.caflow --json benchmarks/results/hardware.json
	$(BIN)/caflow-export x2-video --precision bf16 -o build/x2-video-bf16.caflow --force
	$(BIN)/python -W ignore benchmarks/floors.py $(BUNDLE) --bf16 build/x4-photo-bf16.caflow --int8 build/x4-photo-int8.caflow --json benchmarks/results/floors.json
	$(BIN)/python -W ignore benchmarks/floors.py models/x2-video.caflow --bf16 build/x2-video-bf16.caflow --size 360 640 --samples 1 --json benchmarks/results/floors-video.json

sheets: $(PHOTOGRAPHS)/test  ## Write sheets that compare the ×4 models with other methods, on clean and degraded photographs.
	$(BIN)/python -W ignore benchmarks/sheets.py $(BUNDLE) models/x4-real.caflow --out build/sheets --threads 2

video: $(PHOTOGRAPHS)/clips $(PHOTOGRAPHS)/metrics  ## Measure the quality of enlarged videos, and that of other methods.
	$(BIN)/python -W ignore benchmarks/overlap.py $(BUNDLE) --json benchmarks/results/overlap.json
	$(BIN)/python -W ignore benchmarks/video.py $(BUNDLE) --threads 2 --picture benchmarks/results/video.jpg --json benchmarks/results/video.json
	$(BIN)/python -W ignore benchmarks/video.py models/x4-photo.caflow models/x4-real.caflow models/x2-video.caflow --crf 23 --crf 28 --frames 30 --setting "τ = 0" --setting fixed --json benchmarks/results/video-coded.json
	$(BIN)/python -W ignore benchmarks/video_seams.py $(BUNDLE) --threads 2 --json benchmarks/results/video-seams.json

filter: $(PHOTOGRAPHS)/unseen $(PHOTOGRAPHS)/last $(PHOTOGRAPHS)/domains $(PHOTOGRAPHS)/test $(PHOTOGRAPHS)/metrics  ## Measure which images a calibration detects, and which rule chooses the best sample.
	$(BIN)/python -W ignore benchmarks/filter.py --threads 2 --json benchmarks/results/filter.json
	$(BIN)/python models/calibration_pairs.py x4-real $(PHOTOGRAPHS)/last build/x4-real-last
	$(BIN)/python -W ignore benchmarks/filter.py models/x4-real.caflow --pairs build/x4-real-last --threads 2 --json benchmarks/results/filter-x4-real.json
	$(BIN)/python -W ignore benchmarks/selection.py --threads 2 --picture benchmarks/results/selection.png --json benchmarks/results/selection.json

completion: $(PHOTOGRAPHS)/test $(PHOTOGRAPHS)/last $(PHOTOGRAPHS)/unseen $(PHOTOGRAPHS)/metrics  ## Measure how well holes are filled and photographs are coloured, and other methods.
	$(BIN)/pip install --quiet --editable '.[inpaint,colorize]'
	$(BIN)/python -W ignore benchmarks/inpainting.py models/inpaint-photo.caflow --threads 2 --json benchmarks/results/inpainting.json
	$(BIN)/python -W ignore benchmarks/colorization.py models/colour-hints.caflow --threads 2 --json benchmarks/results/colorization.json

memory: setup  ## Compare the predicted memory with the measured peak, for images of ten sizes. Takes an hour.
	$(BIN)/python benchmarks/memory.py $(BUNDLE) --json benchmarks/results/memory.json

scale: setup  ## Compare the speed of workers and servers with that of one process.
	$(BIN)/python benchmarks/batch.py $(BUNDLE) tests/data/photographs --threads 2 --json benchmarks/results/batch.json
	$(BIN)/python benchmarks/serving.py $(BUNDLE) --json benchmarks/results/serving.json
	$(BIN)/python benchmarks/machines.py tests/data/photographs/canyon-wren.jpg $(BUNDLE) --json benchmarks/results/machines.json

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist
