"""The photographs of the repository, and the small model that learned from them: fixtures, and what tests take of both.

Nothing here needs PyTorch or an export.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from caflow_runtime.jobs.photographs import CROPS, Pair, pairs_of, photographs_in
from caflow_runtime.judge.calibration import NAME as CALIBRATION
from caflow_runtime.pipeline.pipeline import Pipeline, load

DATA = Path(__file__).parent / "data"
TINY = DATA / "tiny.caflow"
"""×4, two levels, a mean network whose features are seen, variational dequantization: of `make_tiny_bundle.py`."""
CALIBRATED_SIDES, CALIBRATED_TEMPERATURE = (16, 32), 0.8


@pytest.fixture(scope="session")
def photographs() -> Path:
    """A folder of 13 CC0 photographs."""
    return DATA / "photographs"


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained bundle, `model`, that is calibrated with these photographs. Do not change it."""
    return Path(shutil.copytree(TINY, tmp_path_factory.mktemp("calibrated") / "model.caflow"))


@pytest.fixture(scope="session")
def uncalibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without its calibration. Do not change it."""
    folder = tmp_path_factory.mktemp("uncalibrated") / "model.caflow"
    return Path(shutil.copytree(TINY, folder, ignore=shutil.ignore_patterns(CALIBRATION)))


@pytest.fixture(scope="module")
def pipe(uncalibrated: Path) -> Iterator[Pipeline]:
    """That bundle on the CPU."""
    with load(uncalibrated, backend="cpu") as pipe:
        yield pipe


def photograph(folder: Path, number: int, height: int, width: int) -> NDArray[np.uint8]:
    """A window of a photograph, (height, width, 3) uint8 RGB."""
    image = cv2.imread(str(sorted(folder.glob("*.jpg"))[number]), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return np.ascontiguousarray(image[100 : 100 + height, 200 : 200 + width]).astype(np.uint8)


def pairs_of_photographs(pipe: Pipeline, folder: Path, each: int = 2 * CROPS) -> list[Pair]:
    """So many crops of each photograph, the largest ones, with their conditions."""
    model = pipe.manifest.model
    return [p for path in photographs_in(folder) for p in pairs_of(path, folder, model, CALIBRATED_SIDES)[-each:]]
