"""Calibrating: what is measured of photographs and of pairs, too few of them, and jobs that are killed and resumed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import caflow, command, in_a_process
from many import crops, started, wait_for_lines
from tiny import CALIBRATED_SIDES, CALIBRATED_TEMPERATURE, calibrate, crops_of, pairs_of_photographs, photograph
from tiny import calibrated_pipe as pipe

from caflow_deploy.filtering.calibrate_model import CalibrateOptions, settings_for
from caflow_deploy.filtering.calibration_job import FOLDER, MEASURES
from caflow_deploy.images.file_search import JOB_FILE
from caflow_deploy.images.image_files import write_image
from caflow_deploy.images.photographs import Pair, photographs_in
from caflow_runtime.errors import InputError, UnreadableImage
from caflow_runtime.ood.calibration import NAME as CALIBRATION
from caflow_runtime.pipeline.pipeline import Pipeline

__all__ = ["pipe"]  # a fixture


SIDES, TEMPERATURE = CALIBRATED_SIDES, CALIBRATED_TEMPERATURE


def test_photographs_of_a_kind_with_too_few_images_do_not_count(pipe: Pipeline, photographs: Path) -> None:
    crops = pairs_of_photographs(pipe, photographs, 2)
    pairs = [replace(pair, photograph=str(k)) for k, pair in enumerate(crops)]
    for k in (0, 7):
        pairs[k] = _grey_copy(pairs[k])
    found = calibrate(pipe, pairs, [TEMPERATURE], measures_coverage=False)
    assert found.truth.grey is None
    assert (found.photographs, found.truth.images) == (24, 24)
    pairs += [replace(_grey_copy(pair), photograph="grey") for pair in pairs[1:19]]  # 20 grey images in all
    found = calibrate(pipe, pairs, [TEMPERATURE], measures_coverage=False)
    assert (found.photographs, found.truth.images) == (27, 44)


def test_the_temperature_of_the_model_itself_is_learned_too(pipe: Pipeline) -> None:
    settings = settings_for(pipe, CalibrateOptions(temperatures=[0.9, 0.3]), 100)
    assert settings.temperatures == [0.3, 0.8, 0.9]


def _grey_copy(pair: Pair) -> Pair:
    grey = [np.repeat(image[..., :1], 3, 2) for image in (pair.target, pair.condition)]
    return Pair(pair.photograph, *grey)


def test_too_few_of_each_kind_are_refused_before_anything_is_drawn(
    pipe: Pipeline, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = pairs_of_photographs(pipe, photographs, 1)
    monkeypatch.delattr(Pipeline, "score")
    with pytest.raises(InputError, match=r"at least 20 coloured or 20 grey crops .* got 26 crops of 13"):
        calibrate(pipe, [*pairs, *map(_grey_copy, pairs)], [TEMPERATURE])


def test_pairs_in_one_subfolder_are_of_one_photograph(pipe: Pipeline, photographs: Path, tmp_path: Path) -> None:
    for name in ("clip/1.png", "clip/2.png", "clip-2/1.png"):
        for side, folder in ((8, "A"), (32, "B")):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, photograph(photographs, 0, side, side))
    (tmp_path / "A" / "alone.png").write_bytes(b"")
    found = photographs_in(tmp_path)
    assert [one.name for one in found] == ["alone.png", "clip", "clip", "clip-2"]  # sorted by path, not by text
    with pytest.raises(UnreadableImage, match=r"alone.png: cannot be read: No such file"):
        crops_of(pipe, found[0], SIDES)
    assert [crops_of(pipe, one, SIDES)[0].photograph for one in found[1:]] == ["clip", "clip", "clip-2"]


PHOTOGRAPHS = 30


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "photographs"
    crops(folder, PHOTOGRAPHS, side=64)
    (folder / "damaged.png").write_text("no image")
    return folder


def options(data: Path) -> list[object]:
    return ["--data", data, "--sides", "16,32", "--temperatures", "0.8,1", "--seed", 2**32 - 100, "--threads", 1]


@pytest.fixture(scope="module")
def whole(uncalibrated: Path, data: Path) -> bytes:
    """Calibration of one undisturbed process."""
    bundle = Path(shutil.copytree(uncalibrated, data.parent / "whole.caflow"))
    assert caflow("calibrate", bundle, *options(data)).returncode == 0
    return (bundle / CALIBRATION).read_bytes()


@pytest.mark.parametrize(
    ("begun_by", "resumed_by"),
    [(0, 0), pytest.param(2, 0, marks=pytest.mark.full), pytest.param(0, 2, marks=pytest.mark.full)],
)
def test_a_killed_calibration_is_resumed(
    calibrated: Path, data: Path, whole: bytes, tmp_path: Path, begun_by: int, resumed_by: int
) -> None:
    """It may overwrite an existing calibration, as the killed command would have done with --force."""
    bundle = Path(shutil.copytree(calibrated, tmp_path / "model.caflow"))
    before = sorted(path.name for path in bundle.iterdir())
    first, second = (["--workers", count][: 2 * bool(count)] for count in (begun_by, resumed_by))
    work = bundle / FOLDER
    with started(command("calibrate", bundle, *options(data), *first, "--force"), tmp_path) as process:
        wait_for_lines(process, tmp_path, work / MEASURES, 5)
        process.kill()
    lines = (work / MEASURES).read_bytes().splitlines(keepends=True)
    assert 5 <= len(lines) < PHOTOGRAPHS
    (work / MEASURES).write_bytes(b"".join([*lines[2:], lines[2], lines[1].replace(b"-", b"+", 1), lines[0][:100]]))
    other = caflow("calibrate", bundle, *options(data), "--sides", 16)
    assert (other.returncode, "--sides 16,32 (now 16)" in other.stderr) == (2, True)
    done = in_a_process(command("calibrate", bundle, *options(data), *second))
    assert done.returncode == 0, done.stderr
    assert f"calibrated with {PHOTOGRAPHS * 12} crops of {PHOTOGRAPHS} photographs" in done.stdout
    assert (bundle / CALIBRATION).read_bytes() == whole
    assert sorted(path.name for path in bundle.iterdir()) == before


def test_photographs_that_have_changed_are_measured_again(
    uncalibrated: Path, data: Path, whole: bytes, tmp_path: Path
) -> None:
    """The numbers of crops, and with them the seeds, depend on the photographs before."""
    bundle = Path(shutil.copytree(uncalibrated, tmp_path / "model.caflow"))
    other = Path(shutil.copytree(data, tmp_path / "photographs"))
    (other / "000.png").unlink()
    with started(command("calibrate", bundle, *options(other)), tmp_path) as process:
        wait_for_lines(process, tmp_path, bundle / FOLDER / MEASURES, 5)
        process.kill()
    assert json.loads((bundle / FOLDER / JOB_FILE).read_text())["command"] == "caflow calibrate"
    shutil.copy2(data / "000.png", other)
    assert caflow("calibrate", bundle, *options(other)).returncode == 0
    assert (bundle / CALIBRATION).read_bytes() == whole
