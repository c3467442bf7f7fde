"""Options of `caflow image` that are wrong or contradict each other: they are refused before anything is written."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from commands import caflow
from tiny import photograph

from caflow_deploy.images.image_files import write_image

WITH_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="requires Ray")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rank", "beauty"], "'beauty' is not one of"),
        (["--rank", "typical", "--temperature", 0.7], "calibrated for the temperatures 0.8; got 0.7"),
        (["-n", 0], "0 is not in the range"),
        (["--backend", "cuda"], "pip install 'caflow-deploy[gpu]'"),
        (["--temperature", "inf"], "temperature must be finite"),
        (["--threads", 999999], "999999 is not in the range 0<=x<=1024"),
        (["--min-typicality", "nan"], "'nan' is not a number"),
        (["--min-typicality", 0.001], "α must be above 0.019 and below 1; got 0.001."),
        (["--min-typicality", 0.1, "--sheet"], "give one or the other"),
        (["--otherwise", "drop"], "otherwise is about samples that min_typicality rejects"),
        (["--redraws", 0], "also give min_typicality"),
        (["--scale", 1], "1.0 is not in the range 1<x<=64"),
        (["--fit", "40"], "such as 1920x1080; got '40'"),
        (["--fit", "0x40"], "must be a width and a height"),
        (["--width", 40, "--judge", "image", "--min-typicality", 0.1], "--judge image requires results of the model's"),
        (["--bits", 16], "out.jpg: --bits 16 requires a result in .png, .tif, .tiff"),
        (["--format", "png"], "--format and --suffix require a folder as -o"),
        (["--suffix", "-x4"], "--format and --suffix require a folder as -o"),
        (["--suffix", "a/b"], "must be at most 64 printable characters"),
        (["--suffix", "a\nb"], "must be at most 64 printable characters"),
        (["--quality", 0], "0 is not in the range 1<=x<=100"),
        (["--workers", 2], "out.jpg names a single image: --workers and --ray"),
        pytest.param(["-o", "out", "--ray", "127.0.0.1:1"], "no Ray cluster at 127.0.0.1:1: ", marks=WITH_RAY),
        pytest.param(["--ray", "auto", "--backend", "tensorrt", "-o", "x"], "does not work with --ray", marks=WITH_RAY),
        (["-o", "out.gif"], "the name of an image must end in .bmp"),
        (["-o", "out.pgn"], "out.pgn ends in .pgn, which is no format of images"),
        (["-o", ""], "the path is empty"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    calibrated: Path,
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[object],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "small.png", photograph(photographs, 1, 8, 12))
    done = caflow("image", "small.png", "-o", "out.jpg", "--model", calibrated, *options, code=2)
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["small.png"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.png", "nowhere.png: found no image"),
        ("", "the path is empty"),
        ("**x/*", r"Invalid pattern|\*\*x/\*: found no image"),  # Python 3.13 accepts the pattern
    ],
)
def test_inputs_without_an_image_are_refused(calibrated: Path, tmp_path: Path, source: str, message: str) -> None:
    done = caflow("image", source, "-o", tmp_path / "out.png", "--model", calibrated, code=2)
    assert re.search(message, done.stderr)
    assert not (tmp_path / "out.png").exists()
