"""Types and parsers of the values of options, and options in texts."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
QUOTED = re.compile(r"`(\w+)`")
"""Name of an argument or of a field in a text, in backticks."""


class NumberRange(click.FloatRange):
    """Range of numbers that excludes NaN. Click's own range accepts NaN, because no comparison rejects it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number in a text, or end the command with an error."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class FilePath(click.Path):
    """Path of a file or folder. It must not be empty, because an empty path would mean the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or end the command if it is empty."""
        if not str(value):
            self.fail("the path is empty.", param, ctx)
        return super().convert(value, param, ctx)


def numbers(context: click.Context, parameter: click.Parameter, text: str | None) -> list[int] | None:
    """Parse an option whose value is a list of positive integers, separated by commas."""
    try:
        found = None if text is None else [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if found is not None and (not found or min(found) < 1):
        raise click.BadParameter(
            f"must be positive integers separated by commas, such as 10,5,3; got {text!r}", context, parameter
        )
    return found


def options(*decorators: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Return a decorator that adds several options to a command, in this order."""

    def add(command: Command) -> Command:
        for decorate in reversed(decorators):
            command = decorate(command)
        return command

    return add


def in_words_of(command: click.Command, text: str) -> str:
    """Return an error message with the options of a command, such as -o, in place of arguments of the library."""
    named = ((name.lstrip("-").replace("-", "_"), one.opts[0]) for one in command.params for name in one.opts)
    return with_flags(text, dict(named))


def with_flags(text: str, flags: Mapping[str, str]) -> str:
    """Return a text with the options of a command in place of the names of fields in backticks."""
    return QUOTED.sub(lambda found: flags.get(found[1], found[0]), text)
