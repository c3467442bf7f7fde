"""Help texts and messages of the commands, and errors for options that have no effect alone."""

from pathlib import Path

import click
import pytest
from commands import caflow, caflow_export

from caflow_deploy import __version__
from caflow_deploy.cli import main as caflow_main
from caflow_export.cli import main as export_main
from caflow_training.cli import main as train_main

ROOT = Path(__file__).parents[3]


def command_of(name: str) -> click.Command:
    entries = {"caflow-export": export_main, "caflow-train": train_main}
    found = entries.get(name) or caflow_main.get_command(click.Context(caflow_main), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["caflow-export", "caflow-train"])
def test_the_option_version_prints_name_and_version(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_of(name).main(["--version"], prog_name="python -m")
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{name}, version {__version__}\n"


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


def test_weights_of_vgg16_require_a_recipe_that_uses_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "vgg16.pt"
    weights.touch()
    given = ["tiny", "--data", tmp_path, "--out", tmp_path / "out", "--vgg16", weights]
    with pytest.raises(SystemExit) as ended:
        train_main(list(map(str, given)))
    assert ended.value.code == 2
    assert "--vgg16: no effect on tiny, whose feature_weight is 0" in capsys.readouterr().err


def test_batches_of_frames_require_fixed_noise(tmp_path: Path) -> None:
    done = caflow("video", "in.mp4", "-o", tmp_path / "out.mp4", "--batch", 2, "--noise", "fresh", code=2)
    assert "--batch requires --noise fixed" in done.stderr


@pytest.mark.parametrize("option", [("--drop", "latest"), ("--patience", "5"), ("--duration", "2")])
def test_options_of_live_sources_require_one(option: tuple[str, str], uncalibrated: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    done = caflow("video", source, "-o", tmp_path / "out.mp4", "--bundle", uncalibrated, *option, code=2)
    assert f"{option[0]} requires a camera or a stream" in done.stderr
