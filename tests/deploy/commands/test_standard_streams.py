"""Standard streams: `-` as an image, closed and full streams, and what is printed of names with control characters."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from commands import caflow, caflow_export, caflow_train, command, json_lines
from tiny import DATA, TINY, photograph

from caflow_deploy.images.image_files import write_image

PROGRAMS = {"caflow_deploy": "caflow", "caflow_export": "caflow-export", "caflow_training": "caflow-train"}
CLOSING = "import os, sys; os.close(int(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"
DRAWING = ["--model", TINY, "-n", 1, "--threads", 1]
LIST = "list.jsonl"
COMMANDS: dict[str, list[object]] = {
    "image": ["image", "image.png", "-o", "out", *DRAWING],
    "filter": ["filter", LIST, "-o", "out", "--model", TINY, "--threads", 1],
    "score": ["score", "image.png", "image.png", "--model", TINY],
    "info": ["info", TINY],
    "doctor": ["doctor", TINY],
    "bench": ["bench", "missing"],
    "video": ["video", "missing.mp4", "-o", "out.mp4"],
    "page": ["page", "--model", "missing"],
    "report": ["report", "missing.jsonl"],
    "calibrate": ["calibrate", TINY, "--data", "."],
    "serve": ["serve", "--model", "missing"],
}
"""A short use of each command, in a folder with an image and a list. Some of them fail, in one line."""
OFTEN = ("image", "score", "serve")
"""Commands of different kinds, which `make test` runs: one with files, one with printed results, and a server."""
NAMES = [pytest.param(name, marks=() if name in OFTEN else pytest.mark.full) for name in COMMANDS]
ONLY_PRINTING = {"score", "info", "doctor", "bench"}
"""Commands whose results are nothing but what they print."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_image(tmp_path / "image.png", photograph(DATA / "photographs", 0, 16, 16))
    (tmp_path / LIST).write_text('{"target": "image.png", "condition": "image.png"}\n')
    return tmp_path


def usual(line: list[str], folder: Path, **streams: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command line, after the results of an earlier run are removed."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run(line, cwd=folder, check=False, **given)


def closed(stream: int, line: list[str], folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a command line with a closed standard stream."""
    return usual([sys.executable, "-c", CLOSING, str(stream), *line], folder)


def full(stream: str, line: list[str], folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a command line with a full standard stream: "stdout" or "stderr"."""
    with Path("/dev/full").open("wb") as device:
        return usual(line, folder, **{stream: device})


@pytest.mark.parametrize("name", NAMES)
def test_a_closed_or_full_standard_error_changes_nothing_but_the_messages(name: str, folder: Path) -> None:
    line = command(*COMMANDS[name])
    done = closed(2, line, folder), full("stderr", line, folder), usual(line, folder)
    assert len({one.returncode for one in done}) == 1
    assert len({bool(one.stdout) for one in done}) == 1
    assert not done[0].stderr
    assert b"Traceback" not in done[-1].stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_closed_standard_output_is_refused_only_where_results_are_printed(name: str, folder: Path) -> None:
    line = command(*COMMANDS[name])
    done = closed(1, line, folder)
    if name in ONLY_PRINTING:
        expected = b"caflow: standard output is closed; redirect it to a file or a pipe\n"
        assert (done.returncode, done.stderr) == (2, expected)
    else:
        assert done.returncode == usual(line, folder).returncode
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("package", "program", "arguments"),
    [
        *((package, program, [option]) for package, program in PROGRAMS.items() for option in ("--version", "--help")),
        *(("caflow_deploy", "caflow", COMMANDS[name]) for name in ("image", "filter", "info")),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_command_fails_if_its_results_or_help_cannot_be_printed(
    package: str, program: str, arguments: list[object], unbuffered: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    done = full("stdout", command(*arguments, package=package), folder)
    assert done.returncode in (1, 2)
    assert done.stderr.decode().count(f"{program}: standard output: No space left on device") == 1
    assert b"Traceback" not in done.stderr


NAME = "a\x1b[31m\nb\x9b"
SHOWN = r"a\x1b[31m\x0ab\x9b"


def test_messages_and_tables_escape_control_characters_and_json_does_not(folder: Path) -> None:
    source = folder / f"{NAME}.png"
    (folder / "image.png").rename(source)
    outputs = [
        caflow("image", source, "-o", folder / NAME, *DRAWING, code=0),
        caflow("image", folder / f"{NAME}.jpg", "-o", folder / "out", *DRAWING, code=2),
        caflow("score", source, source, "--model", TINY, code=2),
        caflow("info", folder / NAME, code=2),
        caflow("serve", NAME, code=2),
        caflow("video", source, "-o", folder / "out.mp4", code=2),
        caflow_export(folder / NAME, "-o", folder / "out.caflow", code=2),
        caflow_train(NAME, "--data", folder, "--out", folder / "run", code=2),
    ]
    for done in outputs:
        printed = done.stdout + done.stderr
        assert SHOWN in printed
        assert not {"\x1b", "\x9b"} & {*printed}
        assert "\nb" not in printed
    (folder / NAME).joinpath(source.name).unlink()
    done = caflow("image", source, "-o", folder / NAME, "--json", *DRAWING, code=0)
    assert json_lines(done.stdout)[0]["input"] == str(source)


def encoded(suffix: str) -> bytes:
    return cv2.imencode(suffix, np.zeros((8, 8, 3), np.uint8))[1].tobytes()


def test_an_image_of_standard_input_has_the_names_that_were_given(uncalibrated: Path, tmp_path: Path) -> None:
    """Files whose names are those of a stream are files. No message names a temporary file."""
    given = encoded(".png")
    common = ["--model", uncalibrated, "-n", 1, "--threads", 1]
    result = tmp_path / "out" / "standard input.png"
    done = caflow("image", "-", "-o", tmp_path / "out", *common, given=given)
    assert f"standard input → {result}  " in done.stdout
    assert caflow("image", result, "-o", tmp_path / "again", *common).stdout.startswith(f"{result} → ")
    done = caflow("image", "-", "-o", tmp_path / "named.png", "--json", *common, given=given)
    (found,) = json_lines(done.stdout)
    assert (found["input"], found["output"]) == ("-", str(tmp_path / "named.png"))
    done = caflow("image", "-", "-o", tmp_path / "bad.png", *common, given=b"no image", code=1)
    assert "caflow: standard input: cannot decode" in done.stderr
    assert "caflow: 1 of 1 image failed: standard input" in done.stderr
    assert "/caflow-" not in done.stderr


def test_a_failed_image_writes_nothing_to_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for arguments, given, message in (
        (["-"], b"", "standard input: "),
        (["-"], b"no image", "standard input: "),
        (["-", "--sheet"], b"", "--sheet writes further files"),
        (["-", "a.png"], b"", "- stands for a single image"),
        (["-"], 2 * encoded(".png"), "standard input: - stands for a single image, but several were piped"),
        (["-"], 2 * encoded(".jpg"), "standard input: - stands for a single image, but several were piped"),
    ):
        done = caflow("image", *arguments, "-o", "-", "--model", TINY, given=given)
        assert done.returncode in (1, 2)
        assert message in done.stderr
        assert capfdbinary.readouterr().out == b""
