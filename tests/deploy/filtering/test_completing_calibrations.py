"""Models that complete images are calibrated with pairs of a mask or hints and a photograph, and then judge results."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import caflow, json_lines_of
from tiny import photograph

from caflow_deploy.images.image_files import write_image
from caflow_runtime.completion.color_hints import Point, draw_hints

PAIRS, SIDE = 24, 48
INPUTS = {"masked-inpainting": "--mask", "color-hints": "--hints"}


@pytest.fixture(params=INPUTS)
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def write_input(path: Path, task: str, number: int) -> None:
    """Write a mask with a hole, or a picture with a hint, of a size that depends on `number`."""
    extent = 4 + number
    if task == "masked-inpainting":
        mask = np.zeros((SIDE, SIDE, 3), np.uint8)
        mask[8 : 8 + extent, 5 : 5 + extent] = 255
        write_image(path, mask)
    else:
        hints = draw_hints(SIDE, SIDE, [Point(20, 20, (200, 40, 10 * number))], radius=3 + number // 4)
        write_image(path, hints[..., :3], hints[..., 3])


@pytest.fixture
def data(task: str, photographs: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    for number in range(PAIRS):
        for name in ("A", "B"):
            (folder / name / f"{number:02}").mkdir(parents=True)
        write_input(folder / "A" / f"{number:02}" / "x.png", task, number)
        write_image(folder / "B" / f"{number:02}" / "x.png", photograph(photographs, number % 13, SIDE, SIDE))
    return folder


def test_results_are_judged_after_calibration(
    task: str, data: Path, completing: dict[str, Path], tmp_path: Path
) -> None:
    bundle = shutil.copytree(completing[task], tmp_path / "model.caflow")
    target, given = data / "B" / "03" / "x.png", data / "A" / "03" / "x.png"
    refused = caflow("filter", data, "-o", tmp_path / "out", "--model", bundle)
    assert "is not calibrated" in refused.stderr
    (data / "A" / "03" / "y.png").write_text("no image")
    shutil.copy(target, data / "B" / "03" / "y.png")
    done = caflow("calibrate", bundle, "--data", data, "--temperatures", 1, "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert f"{data / 'A' / '03' / 'y.png'}: " in done.stderr  # it is skipped
    assert re.search(r"calibrated with (2\d) crops of \1 photographs", done.stdout)  # some are grey, too few to learn
    scored = json.loads(caflow("score", target, target, INPUTS[task], given, "--model", bundle, "--json").stdout)
    assert 0 < scored["image_typicality"] <= 1
    caflow("filter", data, "-o", tmp_path / "out", "--model", bundle, "--min-typicality", 0.2)
    verdicts = {
        Path(line["target"]).relative_to(data / "B"): line for line in json_lines_of(tmp_path / "out/scores.jsonl")
    }
    assert verdicts[Path("03/x.png")]["image_typicality"] == pytest.approx(scored["image_typicality"], rel=1e-6)
    assert verdicts[Path("03/y.png")]["verdict"] == "error"
    assert {"accepted", "error"} <= {line["verdict"] for line in verdicts.values()}
