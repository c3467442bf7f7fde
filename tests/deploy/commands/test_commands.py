"""The `caflow` command as people and programs use it, and options that have no effect alone."""

import errno
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from commands import Done, caflow, caflow_export, caflow_train, messages
from tiny import photograph

from caflow_cli.console import command_console
from caflow_deploy import __version__
from caflow_deploy.commands.pipeline_options import quiet_option
from caflow_deploy.images.image_files import read_image, write_image
from caflow_runtime.pipeline.pipeline import load


@pytest.fixture
def folder(tmp_path: Path, photographs: Path) -> Path:
    """Folder with small images of different kinds, one of them in a subfolder, a damaged image and a text file."""
    folder = tmp_path / "in"
    (folder / "below").mkdir(parents=True)
    picture = photograph(photographs, 0, 9, 12)
    write_image(folder / "colour.png", picture)
    write_image(folder / "grey.png", picture, is_grey=True)
    write_image(folder / "alpha.png", picture, np.full((9, 12), 77, np.uint8))
    write_image(folder / "below" / "photograph.jpg", picture)
    assert cv2.imwrite(str(folder / "deep.png"), picture.astype(np.uint16) * 257)
    (folder / "cut.png").write_bytes((folder / "colour.png").read_bytes()[:100])
    (folder / "notes.txt").touch()
    return folder


def test_a_full_disk_is_named_and_loses_nothing(
    uncalibrated: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images that did not fit are named with the file that cannot be written, and are drawn by the next run."""
    out, write_bytes = tmp_path / "out", Path.write_bytes

    def fills(path: Path, contents: bytes) -> int:
        if "colour.png" not in path.name:
            return write_bytes(path, contents)
        write_bytes(path, contents[: len(contents) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    given = ["image", folder / "grey.png", folder / "colour.png", "-o", out, "--model", uncalibrated, "-n", 1]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fills)
        done = caflow(*given, code=1)
    reason = f"caflow: {folder / 'colour.png'}: {out / 'colour.png'} cannot be written: {os.strerror(errno.ENOSPC)}"
    assert reason in done.stderr.splitlines()
    assert [path.name for path in sorted(out.iterdir())] == ["grey.png", "job.json", "results.jsonl"]
    caflow(*given, code=0)
    assert (out / "colour.png").exists()


def test_a_damaged_image_is_reported_and_the_others_have_results(
    uncalibrated: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = caflow("image", folder, "-o", out, "--model", uncalibrated, "-n", 2, code=1)
    first, last = messages(done.stderr)
    assert first.startswith(f"caflow: {folder / 'cut.png'}: ")
    assert last.endswith(str(folder / "cut.png"))
    assert len(done.stdout.splitlines()) == 5
    assert "deep.png  " in done.stdout
    assert read_image(out / "deep.png").bits == 16
    names = {str(path.relative_to(out)) for path in out.rglob("*.*") if path.suffix in (".png", ".jpg")}
    assert names == {"colour.png", "grey.png", "alpha.png", "deep.png", "below/photograph.jpg"}
    results = {name: read_image(out / name) for name in names}
    assert all(result.rgb.shape == (36, 48, 3) for result in results.values())
    assert results["grey.png"].is_grey
    assert results["alpha.png"].alpha is not None
    assert (results["alpha.png"].alpha == 77).all()
    np.testing.assert_array_equal(results["alpha.png"].rgb, results["colour.png"].rgb)


def test_the_command_writes_the_samples_of_the_pipeline(uncalibrated: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "result.png"
    options = ["-n", 3, "--seed", 5, "--temperature", 0.9, "--sheet", "--keep-all", "--json"]
    done = caflow("image", folder / "colour.png", "-o", out, "--model", uncalibrated, *options, code=0)
    report = json.loads(done.stdout)
    with load(uncalibrated) as pipe:
        drawn = pipe.sample(read_image(folder / "colour.png").rgb, n=3, seed=5, temperature=0.9)
    for k, name in enumerate(["result.png", "result-2.png", "result-3.png"]):
        np.testing.assert_array_equal(read_image(out.with_name(name)).rgb, drawn.images[0][k])
    assert read_image(out.with_name("result-sheet.png")).rgb.shape[1] > 3 * 48
    assert report["output"] == str(out)
    assert report["sample"] == drawn.sample[0, 0]
    assert np.isclose(report["log_likelihood"], drawn.log_likelihood[0, 0])
    assert np.isclose(sum(report["log_likelihood_per_level"]), report["log_likelihood"])
    assert np.isclose(report["bits_per_dim"], drawn.bits_per_dim[0, 0])


def test_results_never_overwrite_inputs(uncalibrated: Path, folder: Path) -> None:
    before = (folder / "colour.png").read_bytes()
    onto_itself = caflow("image", folder, "-o", folder, "--model", uncalibrated, "-n", 2, "--force", code=2)
    assert "is an input and would be overwritten; choose another -o, or a --suffix" in onto_itself.stderr
    assert (folder / "colour.png").read_bytes() == before


def test_outputs_that_cannot_be_written_are_refused(uncalibrated: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output, message in (
        (tmp_path / "file", "file must be a folder, but this path or a part of it is a file or a broken link; choose"),
        (tmp_path / "file" / "below", "below must be a folder, but this path or a part of it is a file"),
        (tmp_path / "one.png", "names a single image"),
        (tmp_path / ("x" * 300), "File name too long"),
        (tmp_path / f"{'x' * 300}.png", "File name too long"),
    ):
        done = caflow("image", folder, "-o", output, "--model", uncalibrated, "-n", 1, code=2)
        assert done.stdout == ""
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_folder_that_is_no_bundle_is_refused(folder: Path, tmp_path: Path) -> None:
    done = caflow("image", folder, "-o", tmp_path / "out", "--model", folder, code=2)
    assert f"{folder} is not a bundle" in done.stderr
    caflow("doctor", folder, code=1)


@pytest.mark.filterwarnings("default")
def test_warnings_of_libraries_are_printed_as_one_line_and_omitted_with_quiet() -> None:
    """Without the file name and the line of code that Python adds. --quiet omits them."""

    @click.command()
    @quiet_option
    def warning() -> None:
        command_console().message("begins")
        warnings.warn("memory ran out;\ncontinuing", stacklevel=1)

    assert CliRunner().invoke(warning).stderr == "begins\ncaflow: memory ran out; continuing\n"
    assert CliRunner().invoke(warning, ["--quiet"]).stderr == ""


def test_a_folder_that_cannot_be_read_is_reported_and_the_others_are_processed(
    uncalibrated: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input without any other image is refused."""
    (folder / "cut.png").unlink()
    scandir, secret = os.scandir, str(folder / "below")

    def refusing(path: str) -> object:
        if str(path) == secret:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    given = ["-o", tmp_path / "out", "--model", uncalibrated, "-n", 1]
    done = caflow("image", folder, *given, code=1)
    assert len(done.stdout.splitlines()) == 4
    assert all(secret in line for line in messages(done.stderr))
    caflow("image", secret, *given, code=2)


def test_caflow_info_shows_task_and_levels(uncalibrated: Path) -> None:
    done = caflow("info", uncalibrated, code=0)
    assert "super-resolution ×4" in done.stdout
    assert json.loads(caflow("info", uncalibrated, "--json").stdout)["model"]["levels"] == 2


@pytest.mark.parametrize(("run", "name"), [(caflow_export, "caflow-export"), (caflow_train, "caflow-train")])
def test_the_option_version_prints_name_and_version(run: Callable[..., Done], name: str) -> None:
    assert run("--version", code=0).stdout == f"{name}, version {__version__}\n"


def test_details_of_options_are_in_the_whole_help_alone() -> None:
    short, whole = (" ".join(caflow("image", option, code=0).stdout.split()) for option in ("--help", "--help-all"))
    details = "likelihood: the most likely sample"
    assert "--temperature" in short.partition("More options:")[2]
    assert (details in short, details in whole) == (False, True)
