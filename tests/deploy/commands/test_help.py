"""Help texts and messages of the commands, and errors for options that have no effect alone."""

import tomllib
from pathlib import Path

import click
import pytest
from commands import caflow, caflow_export

from caflow_deploy import __version__
from caflow_deploy.cli import COMMANDS
from caflow_deploy.cli import main as caflow_main
from caflow_deploy.serving import failures
from caflow_export.cli import main as export_main
from caflow_runtime.bundle.builtin import DESCRIBED
from caflow_training.cli import main as train_main
from caflow_training.recipe import builtin_recipes

ROOT = Path(__file__).parents[3]


def command_of(name: str) -> click.Command:
    entries = {"caflow-export": export_main, "caflow-train": train_main}
    found = entries.get(name) or caflow_main.get_command(click.Context(caflow_main), name)
    assert found is not None
    return found


def help_of(name: str, option: str | None = None) -> str:
    """Return the help text of a command, or of one of its options, in one line."""
    command = command_of(name)
    if option is None:
        return " ".join(command.get_help(click.Context(command)).split())
    texts = [one.help for one in command.params if isinstance(one, click.Option) and option in one.opts]
    assert texts[0]
    return texts[0]


def test_models_of_the_package_are_listed_where_a_bundle_is_expected() -> None:
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    names = [Path(path).stem for path in packaged["force-include"]]
    assert [text.split()[0] for text in DESCRIBED] == names
    for command in [*COMMANDS, "caflow-export"]:
        assert all(name in help_of(command) for name in names), command


def test_the_help_lists_all_built_in_recipes() -> None:
    assert not [name for name in builtin_recipes() if name not in help_of("caflow-train")]


@pytest.mark.parametrize(
    ("command", "option", "extra"),
    [
        ("caflow-export", None, "export"),
        ("caflow-export", "--trt", "rtx-build or trt"),
        ("caflow-train", None, "train"),
        ("caflow-train", "--vgg16", "finetune"),
        ("image", "--backend", "gpu"),
        ("image", "--backend", "openvino"),
        ("image", "--backend", "trt"),
        ("image", "--backend", "rtx"),
        ("video", "--metrics", "metrics"),
        ("image", "--ray", "ray"),
        ("image", None, "heic"),
        ("page", None, "page"),
        ("report", None, "report"),
        ("serve", None, "serve"),
        ("video", None, "video"),
    ],
)
def test_extras_are_named_where_they_are_required(command: str, option: str | None, extra: str) -> None:
    assert f"the extra {extra}" in help_of(command, option)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extra.split(" or ")) <= known.keys()
    assert "pip install 'caflow-deploy[NAME]'" in help_of(command)


def test_a_calibration_is_mentioned_where_it_is_required() -> None:
    for option in ("--rank", "--min-typicality"):
        assert "calibrated" in help_of("image", option)


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
    names = " and ".join(given[::2])
    assert done.stderr == f"caflow-export: {names}: no effect without --trt; also give --trt fp32, fp16 or bf16\n"


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


@pytest.mark.parametrize("option", [("--drop", "latest"), ("--patience", "5")])
def test_options_of_live_sources_require_one(option: tuple[str, str], uncalibrated: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    done = caflow("video", source, "-o", tmp_path / "out.mp4", "--bundle", uncalibrated, *option, code=2)
    assert f"{option[0]} requires a camera or a stream" in done.stderr


def test_an_answer_that_is_too_late_names_the_option() -> None:
    assert "--deadline" in failures.text(TimeoutError())
