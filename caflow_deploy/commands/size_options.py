"""Options that say of which size results are."""

import re
from dataclasses import dataclass

import click

from caflow_deploy.commands.options import Command, NumberRange
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.sizes import MOST_SCALE, MOST_SIDE, Size


@dataclass(frozen=True)
class SizeOptions:
    """What a command was told of the size of results."""

    scale: float | None
    width: int | None
    height: int | None
    fit: tuple[int, int] | None

    def size(self, pipe: Pipeline, multiple: int = 1) -> Size | None:
        """The size that results are to have; None is the model's.

        Raises:
            InputError: if the model cannot give results of other sizes.
        """
        ways = [self.scale is not None, self.width is not None or self.height is not None, self.fit is not None]
        if sum(ways) > 1:
            raise click.UsageError("wanted one of --scale, --width or --height or both, and --fit")
        if not any(ways):
            return None
        size = Size(self.scale, self.width, self.height, self.fit, multiple)
        size.check_fits(pipe.manifest.model.task, pipe.manifest.model.scale)
        return size


def size_options(command: Command) -> Command:
    """Of which size results are, for super-resolution."""
    for option in (
        click.option(
            "--fit", metavar="WxH", callback=box, help="The largest size that fits in this box, with IN's aspect ratio."
        ),
        click.option("--height", type=click.IntRange(1, MOST_SIDE), help="Height of the result; see --width."),
        click.option(
            "--width",
            type=click.IntRange(1, MOST_SIDE),
            help="Width of the result in pixels. Without --height, the height keeps the aspect ratio.",
        ),
        click.option(
            "--scale",
            type=NumberRange(1, MOST_SCALE, min_open=True),
            help="Size of the result in multiples of IN, such as 2 or 1.5. The model enlarges, as often as needed, and "
            "the result is then reduced in linear light.  [default: the model's]",
        ),
    ):
        command = option(command)
    return command


def box(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """The callback of --fit."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,7})[x×](\d{1,7})", text)
    sides = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(1 <= side <= MOST_SIDE for side in sides):
        raise click.BadParameter(f"wanted a width and a height such as 1920x1080, got {text!r}", context, parameter)
    return sides
