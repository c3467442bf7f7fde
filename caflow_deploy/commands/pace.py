"""Lines on standard error about the work of a command: before it begins, and while it runs."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import click

from caflow_deploy.commands.option_values import Command
from caflow_deploy.commands.standard_streams import is_pipe

LEAST_S, LEAST_SHARE = 10.0, 0.1
"""Least time in seconds, and least fraction of the work, between two progress lines; both must have passed."""
MINUTE, HOUR = 60, 3600


@dataclass(frozen=True)
class Saying:
    """Values of the options about messages."""

    quiet: bool
    dry_run: bool
    is_for_programs: bool = False
    """Whether standard error carries lines for programs, so that no other messages may be written to it."""

    def hush(self) -> None:
        """With --quiet, suppress Python's warnings until the command ends."""
        if self.quiet:
            click.get_current_context().with_resource(warnings.catch_warnings(action="ignore"))

    def beside(self, output: Path | None, as_json: bool) -> "Saying":
        """Return the values for a command with this output. If it is standard output, JSON goes to standard error."""
        return replace(self, is_for_programs=is_pipe(output) and as_json and not self.dry_run)

    def say(self, line: str) -> None:
        """Print a line about the plan or the progress."""
        if not self.quiet and not self.is_for_programs:
            click.echo(line, err=True)

    def warn(self, line: str) -> None:
        """Print a warning."""
        if not self.quiet:
            click.echo(f"caflow: {line}", err=True)


def saying_options(command: Command) -> Command:
    """Add the options about messages and about dry runs."""
    for option in (
        click.option(
            "--dry-run",
            is_flag=True,
            help="Report what would be done, how much memory it requires, and about how long it takes on this machine, "
            "and stop. An input that the command would refuse gives the exit code of the command itself.",
        ),
        click.option("--quiet", is_flag=True, help="Print no messages on standard error except errors."),
    ):
        command = option(command)
    return command


class Pace:
    """Progress lines with the remaining time: one after a small part of the work, others from time to time."""

    def __init__(self, say: Callable[[str], None] | None) -> None:
        """Start before the first part of the work.

        Arguments:
            say: function that prints a line; None if a progress bar is shown instead.
        """
        self.say = say
        self._began, self._before = time.monotonic(), 0.0
        self._is_warm = False
        self._last: tuple[float, float] | None = None
        """Time of the last line, and the fraction that was finished then."""

    def begin_at(self, share: float) -> None:
        """Estimate the speed from now on. Earlier work is ignored, because it ran at another speed.

        Arguments:
            share: fraction of the work that is finished, 0…1.
        """
        self._began, self._before = time.monotonic(), share

    def tell(self, share: float, what: str) -> None:
        """Print a progress line if enough time has passed since the last one.

        Arguments:
            share: fraction of the work that is finished, 0…1.
            what: description of the finished work, such as "3 of 25 images".
        """
        now = time.monotonic()
        if self.say is None or not self._before < share < 1:
            return
        if not self._is_warm and share - self._before < LEAST_SHARE:
            # Memory is allocated during the first part, which makes it slow. A small first part is not counted.
            self._is_warm = True
            self.begin_at(share)
            return
        if self._last is not None and (now - self._last[0] < LEAST_S or share - self._last[1] < LEAST_SHARE):
            return
        self._last = now, share
        self.say(f"{what}, about {duration((now - self._began) * (1 - share) / (share - self._before))} left")


def duration(seconds: float) -> str:
    """Return a duration as text, with a precision that suits an estimate."""
    if seconds < 2 * MINUTE:
        return f"{max(1, round(seconds))} s"
    if seconds < 2 * HOUR:
        return f"{round(seconds / MINUTE)} min"
    return f"{seconds / HOUR:.1f} h"
