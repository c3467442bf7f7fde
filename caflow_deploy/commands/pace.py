"""What commands say of their work before it begins and while it lasts, on standard error."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import click

from caflow_deploy.commands.options import Command
from caflow_deploy.commands.standard_streams import is_pipe

LEAST_S, LEAST_SHARE = 10.0, 0.1
"""Between two lines about progress, where there is no terminal: both must have passed."""
MINUTE, HOUR = 60, 3600


@dataclass(frozen=True)
class Saying:
    """What a command was told of what it is to say."""

    quiet: bool
    dry_run: bool
    is_for_programs: bool = False
    """Whether standard error has lines for programs."""

    def hush(self) -> None:
        """Keep warnings of Python to itself for the rest of the command, where nothing is to be said."""
        if self.quiet:
            click.get_current_context().with_resource(warnings.catch_warnings(action="ignore"))

    def beside(self, output: Path | None, as_json: bool) -> "Saying":
        """The same for a command with such an output: with JSON, where that is a pipe, standard error has the JSON."""
        return replace(self, is_for_programs=is_pipe(output) and as_json and not self.dry_run)

    def say(self, line: str) -> None:
        """What is to be done, or how far that is."""
        if not self.quiet and not self.is_for_programs:
            click.echo(line, err=True)

    def warn(self, line: str) -> None:
        """Something that is amiss, and no error."""
        if not self.quiet:
            click.echo(f"caflow: {line}", err=True)


def saying_options(command: Command) -> Command:
    """How much is said, and whether anything is done."""
    for option in (
        click.option(
            "--dry-run",
            is_flag=True,
            help="Say what would be done, and what memory it would take, and do nothing. The exit code is 1 where "
            "something would be refused.",
        ),
        click.option("--quiet", is_flag=True, help="Say nothing but errors on standard error."),
    ):
        command = option(command)
    return command


class Pace:
    """Says how far something is, and how long the rest will take: after its first parts, and then now and then."""

    def __init__(self, say: Callable[[str], None] | None) -> None:
        """`say`: takes a line; None where a terminal shows it otherwise."""
        self.say = say
        self._began, self._before = time.monotonic(), 0.0
        self._is_warm = False
        self._last: tuple[float, float] | None = None
        """When the last line was said, and how much was done then."""

    def begin_at(self, share: float) -> None:
        """Count from here on: what was done before has taken another time than the rest will."""
        self._began, self._before = time.monotonic(), share

    def tell(self, share: float, what: str) -> None:
        """Say it, where it is time.

        Arguments:
            share: of the work that is done, 0 … 1.
            what: is done, for people.
        """
        now = time.monotonic()
        if self.say is None or not self._before < share < 1:
            return
        if not self._is_warm and share - self._before < LEAST_SHARE:
            # The first part takes longer than the others, as memory is allocated: a small one is not counted.
            self._is_warm = True
            self.begin_at(share)
            return
        if self._last is not None and (now - self._last[0] < LEAST_S or share - self._last[1] < LEAST_SHARE):
            return
        self._last = now, share
        self.say(f"{what}, about {duration((now - self._began) * (1 - share) / (share - self._before))} left")


def duration(seconds: float) -> str:
    """For people, as well as it can be known."""
    if seconds < 2 * MINUTE:
        return f"{max(1, round(seconds))} s"
    if seconds < 2 * HOUR:
        return f"{round(seconds / MINUTE)} min"
    return f"{seconds / HOUR:.1f} h"
