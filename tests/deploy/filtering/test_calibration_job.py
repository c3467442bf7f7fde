"""`caflow calibrate`: a job that is killed and resumed writes the same calibration as one that was not stopped."""

import json
import shutil
from pathlib import Path

import pytest
from commands import caflow, command, in_a_process
from many import crops, started, wait_for_lines

from caflow_runtime.file_io.job_file import JOB_FILE
from caflow_runtime.jobs.calibration_job import FOLDER, MEASURES
from caflow_runtime.ood.calibration import NAME as CALIBRATION

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


@pytest.mark.parametrize(("begun_by", "resumed_by"), [(0, 0), (2, 0), (0, 2)])
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
