"""What a person reads on a terminal: every line once, broken between words only, above the progress bar.

The bar leaves nothing behind.

The same command prints the same lines into pipes, so those are what the test expects.
"""

import os
import pty
import re
import subprocess
import termios
from contextlib import suppress
from pathlib import Path

import pyte
import pytest
from commands import command, environment_with, in_a_process, messages
from described import insert_png_chunks
from tiny import photograph

from caflow_deploy.images.image_files import write_image

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


def in_a_terminal(line: list[str], columns: int) -> tuple[int, list[str]]:
    """Run a command line in a terminal. Return its exit code, and the lines that can be read after it has ended."""
    terminal, inside = pty.openpty()
    termios.tcsetwinsize(inside, (24, columns))
    environment = environment_with(TERM="xterm-256color", COLUMNS="", LINES="", NO_COLOR="", FORCE_COLOR="")
    started = ["setsid", "--ctty", *line]
    screen = Screen(columns, 24, HISTORY)
    stream = pyte.ByteStream(screen)
    with subprocess.Popen(started, stdin=inside, stdout=inside, stderr=inside, env=environment) as process:
        os.close(inside)
        try:
            with suppress(OSError):  # no process has the terminal open any more
                while True:
                    stream.feed(os.read(terminal, 2**16))
            process.wait()
        finally:
            process.kill()
            os.close(terminal)
    return process.returncode, screen.text


PLAN = re.compile(r".* (tile|tiles) .* of memory(, about .*)?")


def joined(rows: list[str]) -> list[str]:
    """Return the lines of indented rows, which continue the line before them, without the time that an image took.

    Several spaces become one.
    """
    lines = re.split("\n(?!  )", "\n".join(rows))
    return [re.sub(r", \d+\.\d s$", "", " ".join(line.split())) for line in lines]


@pytest.mark.parametrize("columns", [80, 120, 220])
def test_a_terminal_shows_results_and_errors_once(
    calibrated: Path, photographs: Path, tmp_path: Path, columns: int
) -> None:
    """There are results, a failure, warnings about one image, and a warning and an error about all of them.

    One image is damaged, one has malformed EXIF, and one has a name that is longer than any row.
    """
    folder = tmp_path / "images"
    folder.mkdir()
    picture = photograph(photographs, 0, 9, 12)
    write_image(folder / f"{'long-' * 40}name.png", picture)
    (folder / "damaged.png").write_text("no image")
    write_image(folder / "exif.png", picture)
    insert_png_chunks(folder / "exif.png", {b"eXIf": b"none"})
    options = ["--model", calibrated, "-n", 2, "--threads", 1, "--min-typicality", 0.9, "--redraws", 0, "--force"]
    line = command("image", folder, "-o", tmp_path / "out", *options)
    (code, shown), piped = in_a_terminal(line, columns), in_a_process(line)
    assert (piped.returncode, len(piped.stdout.splitlines()), len(messages(piped.stderr))) == (1, 2, 5), piped.stderr
    assert code == piped.returncode
    for row in shown:  # no line is broken inside a word, except for words that fill a row
        assert len(row) <= columns or " " not in row.strip() or row.startswith("{"), row
    plans = [text for text in joined(shown) if PLAN.fullmatch(text)]
    assert len(plans) == len([text for text in piped.stderr.splitlines() if PLAN.fullmatch(text)])
    others = [text for text in joined(shown) if text not in plans]
    assert sorted(others) == sorted(joined([*piped.stdout.splitlines(), *messages(piped.stderr)]))
