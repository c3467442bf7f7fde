"""Fixtures and helpers for the repository's photographs and the small model that was trained with them.

Nothing here requires PyTorch or an export.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from caflow_deploy.filtering.calibrate import Survey, learn_calibration, measure_crops
from caflow_deploy.images.photographs import CROPS, Pair, Photograph, pairs_of, photographs_in
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.ood.calibration import NAME as CALIBRATION
from caflow_runtime.ood.calibration import Calibration
from caflow_runtime.pipeline.pipeline import Pipeline, load

DATA = Path(__file__).parents[1] / "data"
TINY = DATA / "tiny.caflow"
"""Bundle of `make_bundles.py`: ×4, two levels, a mean network with features, variational dequantization."""
CALIBRATED_SIDES, CALIBRATED_TEMPERATURE = (16, 32), 0.8


@pytest.fixture(scope="session")
def photographs() -> Path:
    """A folder of 13 CC0 photographs."""
    return DATA / "photographs"


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained bundle, named `model`, with its calibration. Tests must not change it."""
    return Path(shutil.copytree(TINY, tmp_path_factory.mktemp("calibrated") / "model.caflow"))


@pytest.fixture(scope="session")
def completing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles, by task, of models that complete images. Tests must not change them."""
    folder = tmp_path_factory.mktemp("completing")
    names = ("masked-inpainting", "color-hints")
    return {name: Path(shutil.copytree(DATA / f"{name}.caflow", folder / f"{name}.caflow")) for name in names}


@pytest.fixture(scope="session")
def uncalibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained bundle without its calibration. Tests must not change it."""
    folder = tmp_path_factory.mktemp("uncalibrated") / "model.caflow"
    return Path(shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns(CALIBRATION)))


@pytest.fixture
def copied(uncalibrated: Path, tmp_path: Path) -> Path:
    """A copy of the uncalibrated bundle, which the test may change."""
    return Path(shutil.copytree(uncalibrated, tmp_path / "copy.caflow"))


@pytest.fixture
def copied_calibrated(calibrated: Path, tmp_path: Path) -> Path:
    """A copy of the calibrated bundle, which the test may change."""
    return Path(shutil.copytree(calibrated, tmp_path / "copy.caflow"))


@contextmanager
def edited(folder: Path, name: str = MANIFEST) -> Iterator[Any]:
    """Yield the contents of a bundle's manifest, or of another JSON file. What the block changes in them is written."""
    contents = json.loads((folder / name).read_text())
    yield contents
    (folder / name).write_text(json.dumps(contents))


@pytest.fixture(scope="module")
def pipe(uncalibrated: Path) -> Iterator[Pipeline]:
    """The uncalibrated bundle on the CPU."""
    with load(uncalibrated, backend="cpu") as pipe:
        yield pipe


@pytest.fixture(scope="module")
def calibrated_pipe(calibrated: Path) -> Iterator[Pipeline]:
    """The calibrated bundle on the CPU."""
    with load(calibrated, backend="cpu") as pipe:
        yield pipe


def photograph(folder: Path, number: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return a window of a photograph, (height, width, 3) uint8 RGB."""
    image = cv2.imread(str(sorted(folder.glob("*.jpg"))[number]), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return np.ascontiguousarray(image[100 : 100 + height, 200 : 200 + width]).astype(np.uint8)


def stored(path: Path) -> NDArray[Any]:
    """Return the values that an image file stores, as OpenCV reads them."""
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert found is not None
    return found


def calibrate(
    pipe: Pipeline, pairs: Iterable[Pair], temperatures: Sequence[float], measures_coverage: bool = True
) -> Calibration:
    """Return the calibration that is learned from pairs, as by `caflow calibrate`."""
    pairs, survey = list(pairs), Survey(pipe.manifest.model)
    for pair in pairs:
        survey.add(pair)
    survey.check()
    measures = measure_crops(pipe, pairs, temperatures, 0)
    return learn_calibration(pipe, survey, measures, temperatures, measures_coverage=measures_coverage)


def pairs_of_photographs(pipe: Pipeline, folder: Path, each: int = 2 * CROPS) -> list[Pair]:
    """Return the `each` largest crops of each photograph, with their conditions."""
    return [p for one in photographs_in(folder) for p in crops_of(pipe, one, CALIBRATED_SIDES)[-each:]]


def crops_of(pipe: Pipeline, photograph: Photograph, sides: Sequence[int]) -> list[Pair]:
    """Return the crops of a photograph, with conditions made as in the training of the model."""
    return pairs_of(photograph, pipe.manifest.model, pipe.consistency.degraded, sides)
