"""Types and parsers of the values of options."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


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
