"""What a person reads on a terminal: every line once, broken between words only, above the progress bar.

The bar leaves nothing behind.

The same command prints the same lines into pipes, so those are what each test expects.
"""

import os
import pty
import re
import subprocess
import termios
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyte
import pytest
from commands import Done, command, environment_with, heeding_ctrl_c, in_a_process, messages
from described import insert_png_chunks
from tiny import photograph

from caflow_deploy.images.image_files import write_image

CTRL_C = b"\x03"
HISTORY = 10_000
"""Number of rows that the emulator keeps after they have left the screen."""


class Screen(pyte.HistoryScreen):
    """Screen that knows which rows the terminal has wrapped, so that lines can be read as they were printed.

    A wrapped row has one more cell than the screen has columns.
    """

    def draw(self, data: str) -> None:
        for character in data:
            if self.cursor.x == self.columns:
                self.buffer[self.cursor.y][self.columns] = self.cursor.attrs
            super().draw(character)

    @property
    def text(self) -> list[str]:
        """Lines of the history and the screen, without empty lines at the end."""
        rows = [*self.history.top, *(self.buffer[y] for y in range(self.lines))]
        lines, line = list[str](), ""
        for row in rows:
            part = "".join(row[x].data for x in range(self.columns))
            is_wrapped = self.columns in row
            line += part if is_wrapped else part.rstrip()
            if not is_wrapped:
                lines.append(line)
                line = ""
        while lines and not lines[-1]:
            lines.pop()
        return lines


@dataclass(frozen=True)
class Shown:
    """A command that has run in a terminal."""

    returncode: int
    lines: list[str]
    """Lines that can be read on the screen and in its history after the command has ended."""
    columns: int


def in_a_terminal(line: Iterable[object], columns: int, ctrl_c_after: str | None = None) -> Shown:
    """Run a command line in a terminal to its end.

    Arguments:
        ctrl_c_after: text; Ctrl-C is pressed as soon as it can be read.
    """
    terminal, inside = pty.openpty()
    termios.tcsetwinsize(inside, (24, columns))
    environment = environment_with(TERM="xterm-256color", COLUMNS="", LINES="", NO_COLOR="", FORCE_COLOR="")
    started = ["setsid", "--ctty", *heeding_ctrl_c(line)]
    screen = Screen(columns, 24, HISTORY)
    stream = pyte.ByteStream(screen)
    with subprocess.Popen(started, stdin=inside, stdout=inside, stderr=inside, env=environment) as process:
        os.close(inside)
        try:
            while output := _read(terminal):
                stream.feed(output)
                if ctrl_c_after is not None and any(ctrl_c_after in one for one in screen.text):
                    os.write(terminal, CTRL_C)
                    ctrl_c_after = None
            process.wait()
        finally:
            process.kill()
            os.close(terminal)
    return Shown(process.returncode, screen.text, columns)


def _read(terminal: int) -> bytes:
    """Return the next output; nothing once no process has the terminal open."""
    try:
        return os.read(terminal, 2**16)
    except OSError:
        return b""


WIDTHS = pytest.mark.parametrize("columns", [80, 120, 220])
PLAN = re.compile(r".* (tile|tiles) .* of memory(, about .*)?")
RESULT = re.compile(r"(\S+) → (\S+) .*\d+×\d+.*")


@pytest.fixture
def folder(photographs: Path, tmp_path: Path) -> Path:
    """Three images: one that is damaged, one with malformed EXIF, and one whose name is longer than any row."""
    folder = tmp_path / "images"
    folder.mkdir()
    picture = photograph(photographs, 0, 9, 12)
    write_image(folder / f"{'long-' * 40}name.png", picture)
    (folder / "damaged.png").write_text("no image")
    write_image(folder / "exif.png", picture)
    insert_png_chunks(folder / "exif.png", {b"eXIf": b"none"})
    return folder


def of_bundle(bundle: Path, samples: int = 2) -> list[object]:
    return ["--model", bundle, "-n", samples, "--threads", 1]


def joined(rows: list[str]) -> list[str]:
    """Return the lines of indented rows, which continue the line before them, without the time that an image took.

    Several spaces become one.
    """
    return (
        [re.sub(r", \d+\.\d s$", "", " ".join(line.split())) for line in re.split("\n(?!  )", "\n".join(rows))]
        if rows
        else []
    )


def unbroken(shown: Shown) -> list[str]:
    """Return the lines of a terminal. Check that it broke no line inside a word, except for words that fill a row."""
    for row in shown.lines:
        assert len(row) <= shown.columns or " " not in row.strip() or row.startswith("{"), row
    return joined(shown.lines)


def shows(shown: Shown, piped: Done | subprocess.CompletedProcess[str]) -> None:
    """Check that a terminal shows exactly the lines that the same command has printed into pipes, and the plan."""
    assert shown.returncode == piped.returncode
    lines = unbroken(shown)
    plans = [line for line in lines if PLAN.fullmatch(line)]
    assert len(plans) == len([line for line in piped.stderr.splitlines() if PLAN.fullmatch(line)])
    others = [line for line in lines if line not in plans]
    assert sorted(others) == sorted(joined([*piped.stdout.splitlines(), *messages(piped.stderr)]))


@WIDTHS
def test_a_terminal_shows_results_and_errors_once(calibrated: Path, folder: Path, tmp_path: Path, columns: int) -> None:
    """There are results, a failure, warnings about one image, and a warning and an error about all of them."""
    options = [*of_bundle(calibrated), "--min-typicality", 0.9, "--redraws", 0, "--force"]
    line = command("image", folder, "-o", tmp_path / "out", *options)
    shown, piped = in_a_terminal(line, columns), in_a_process(line)
    assert (piped.returncode, len(piped.stdout.splitlines()), len(messages(piped.stderr))) == (1, 2, 5), piped.stderr
    shows(shown, piped)


@WIDTHS
def test_a_terminal_shows_results_before_a_stop(
    calibrated: Path, photographs: Path, tmp_path: Path, columns: int
) -> None:
    """There are so many samples that the command cannot be finished before a busy machine delivers the signal."""
    count, given = 40, tmp_path / "many"
    given.mkdir()
    for k in range(count):
        write_image(given / f"{k:02}.png", photograph(photographs, 0, 9, 12))
    line = command("image", given, "-o", tmp_path / "out", *of_bundle(calibrated, samples=300))
    shown = in_a_terminal(line, columns, ctrl_c_after=" 1/40 ")
    assert shown.returncode == 130
    plan, *results, last = unbroken(shown)
    assert PLAN.fullmatch(plan)
    found = [RESULT.fullmatch(result) for result in results]
    assert [one and Path(one[1]).name for one in found] == [f"{k:02}.png" for k in range(len(results))]
    finished = len(results)
    assert f"{finished} of {count} images finished" in last
