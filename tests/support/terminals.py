"""A real pseudo-terminal in which tests run commands, and an emulator that shows what a person would read there."""

import os
import pty
import subprocess
import termios
from collections.abc import Iterable
from dataclasses import dataclass

import pyte
from commands import environment_with, heeding_ctrl_c

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
