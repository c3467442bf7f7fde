"""What a command prints: results, messages and a progress bar."""

import os
import sys
import termios
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from caflow_cli.command_error import CommandError
from caflow_cli.standard_streams import is_terminal, naming_stdout, print_message, wrapped
from caflow_runtime.file_io.paths import printable
from caflow_runtime.interruptible import deferring_stops

WIDTH_IN_FILES = 160
"""Width of tables that are not printed to a terminal, in characters."""
SPEED_PERIOD_S = 600.0
"""Time in seconds from which the speed is estimated. One image may take longer than rich's usual 30 seconds."""
LOCAL_MODES = 3
"""Index of a terminal's local modes in the list of `termios`."""


class CommandConsole:
    """Printer of one command. Results go to standard output; messages and the progress bar to standard error.

    On a terminal, lines are printed above the bar. Files and pipes receive exactly the given lines.
    """

    def __init__(self) -> None:
        """Start before anything is printed."""
        self.as_json = False
        """Whether results are JSON objects for programs."""
        self.is_verbose = False
        """Whether results have figures that only some people want to know."""
        self.shows_messages = True
        """Whether the plan and the progress are shown."""
        self.shows_warnings = True
        self._stdout = sys.stdout  # the real one: while Ray runs, sys.stdout leads to standard error
        self._terminal = Console(file=_duplicate(sys.stderr))
        self._bar: Progress | None = None

    def result(self, line: str) -> None:
        """Print a result to standard output."""
        self._print(line, wraps=not self.as_json)

    def summary(self, line: str) -> None:
        """Print a line about the results, for people: to standard output, or to standard error beside JSON."""
        self._print(line, err=self.as_json)

    def message(self, line: str) -> None:
        """Print a line about the plan or the progress."""
        if self.shows_messages:
            self._print(line, err=True)

    def warning(self, text: str) -> None:
        """Print a warning."""
        if self.shows_warnings:
            self.error(text)

    def error(self, text: str) -> None:
        """Print an error that does not end the command."""
        self._print(f"caflow: {text}", err=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
        """Print a table to standard output."""
        table = Table(*map(escape, map(printable, columns)), box=box.SIMPLE)
        for row in rows:
            table.add_row(*(escape(printable(cell)) if isinstance(cell, str) else cell for cell in row))
        console = Console(file=self._stdout, width=None if is_terminal(self._stdout) else WIDTH_IN_FILES)
        with naming_stdout():
            console.print(table)

    def require_stdout(self) -> None:
        """Check that standard output is open. Commands call it whose results are only printed.

        Raises:
            CommandError: if the check fails.
        """
        if self._stdout is None:
            raise CommandError("standard output is closed; redirect it to a file or a pipe")

    @contextmanager
    def progress_bar(self, *columns: ProgressColumn) -> Iterator[Progress]:
        """Yield a progress bar, which is erased at the end. It is disabled unless standard error is a terminal.

        Arguments:
            columns: columns of the bar; by default its name, the bar, the counts and the remaining time.
        """
        usual = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        is_shown = self.shows_messages and self._terminal.is_interactive
        self._bar = Progress(
            *(columns or usual),
            console=self._terminal,
            transient=True,
            disable=not is_shown,
            speed_estimate_period=SPEED_PERIOD_S,
        )
        if not is_shown:
            yield self._bar
            return
        with _undisturbed_by_keys(self._terminal.file.fileno()):
            self._bar.start()
            try:
                yield self._bar
            finally:
                with deferring_stops():  # otherwise the bar might stay
                    self._bar.stop()

    @contextmanager
    def showing_warnings(self) -> Iterator[None]:
        """Print the Python warnings of the block like other warnings: the message alone, in one line."""
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: self.warning(" ".join(str(message).split()))
            yield

    def _print(self, line: str, err: bool = False, wraps: bool = True) -> None:
        is_above_bar = self._bar is not None and self._bar.live.is_started and (err or is_terminal(self._stdout))
        if is_above_bar:
            line = wrapped(line, sys.stderr if err else self._stdout) if wraps else line
            with deferring_stops():  # otherwise the line might be lost, or printed twice
                self._terminal.print(line, soft_wrap=True, markup=False, emoji=False, highlight=False)
        elif err:
            print_message(line)
        else:
            with naming_stdout():
                click.echo(wrapped(line, self._stdout) if wraps else line, self._stdout)


def _duplicate(stderr: TextIO | None) -> TextIO | None:
    """Return standard error with a descriptor of its own, if it is a terminal.

    The bar then stays on the terminal while descriptor 2 leads elsewhere (`native_stderr`).
    """
    if stderr is None or not is_terminal(stderr):
        return stderr
    return os.fdopen(os.dup(stderr.fileno()), "w", encoding=stderr.encoding, errors=stderr.errors)


@contextmanager
def _undisturbed_by_keys(terminal: int) -> Iterator[None]:
    """Let keys not be printed into the bar, and Ctrl-C not discard output that the terminal has not shown yet."""
    before = termios.tcgetattr(terminal)
    during = [*before]
    during[LOCAL_MODES] = before[LOCAL_MODES] & ~termios.ECHO | termios.NOFLSH
    try:
        _set_modes(terminal, during)
        yield
    finally:
        with deferring_stops():
            _set_modes(terminal, before)


def _set_modes(terminal: int, modes: list[Any]) -> None:
    """Set the modes of a terminal, unless this process is in the background: the terminal would suspend it."""
    with suppress(OSError):  # the terminal is not that which controls this process
        if os.tcgetpgrp(terminal) == os.getpgrp():
            termios.tcsetattr(terminal, termios.TCSADRAIN, modes)


def command_console() -> CommandConsole:
    """Return the console of the command that runs. Until the command ends, it also prints Python's warnings."""
    context = click.get_current_context()
    console = context.ensure_object(CommandConsole)
    context.with_resource(console.showing_warnings())
    return console


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 image" or "2 images"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def resuming(done: int, count: int, noun: str) -> str:
    """Return how much of a stopped job is finished, and where the same command resumes."""
    if not done:
        return f"no {noun} is finished; the same command starts at the beginning"
    way = f"resumes with the other {count - done}" if done < count else "completes the job"
    return f"{done} of {counted(count, noun)} finished; {same_command()} {way}"


def same_command() -> str:
    """Return the name of the command that resumes the present one. `--force` would start again."""
    context = click.get_current_context(silent=True)
    return "the same command" + " without --force" * bool(context is not None and context.params.get("force"))
