"""Help texts and messages of the commands, and errors for options that have no effect alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Done, caflow, caflow_export, caflow_train

from caflow_deploy import __version__


@pytest.mark.parametrize(("run", "name"), [(caflow_export, "caflow-export"), (caflow_train, "caflow-train")])
def test_the_option_version_prints_name_and_version(run: Callable[..., Done], name: str) -> None:
    assert run("--version", code=0).stdout == f"{name}, version {__version__}\n"


@pytest.mark.parametrize(
    "given",
    [
        ["--max-size", "512"],
        ["--max-batch-size", "4"],
        ["--trt-flavor", "rtx"],
        ["--compute-capability", "8.6"],
        ["--max-batch-size", "4", "--max-size", "512"],
    ],
)
def test_options_about_engines_require_trt(given: list[str], tmp_path: Path) -> None:
    done = caflow_export("x4-photo", "-o", tmp_path / "out.caflow", *given, code=2)
    assert f"{' and '.join(given[::2])}: no effect without --trt" in done.stderr


def test_weights_of_vgg16_require_a_recipe_that_uses_them(tmp_path: Path) -> None:
    weights = tmp_path / "vgg16.pt"
    weights.touch()
    done = caflow_train("tiny", "--data", tmp_path, "--out", tmp_path / "out", "--vgg16", weights, code=2)
    assert "--vgg16: no effect on tiny" in done.stderr


def test_batches_of_frames_require_fixed_noise(tmp_path: Path) -> None:
    done = caflow("video", "in.mp4", "-o", tmp_path / "out.mp4", "--batch", 2, "--noise", "fresh", code=2)
    assert "--batch requires --noise fixed" in done.stderr


@pytest.mark.parametrize("option", [("--drop", "latest"), ("--patience", "5")])
def test_options_of_live_sources_require_one(option: tuple[str, str], uncalibrated: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    done = caflow("video", source, "-o", tmp_path / "out.mp4", "--bundle", uncalibrated, *option, code=2)
    assert f"{option[0]} requires a camera or a stream" in done.stderr
