"""Options about the results: their files and their size."""

import re
from dataclasses import dataclass

import click

from caflow_deploy.commands.option_values import NumberRange, options
from caflow_deploy.jobs.result_naming import FORMATS, SOURCE
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.sizes import MAX_SCALE, MAX_SIDE, Size

MAX_SUFFIX_CHARACTERS = 64


def _suffix(context: click.Context, parameter: click.Parameter, text: str) -> str:
    if len(text) > MAX_SUFFIX_CHARACTERS or not text.isprintable() or {"/", "\\"} & set(text):
        raise click.BadParameter(
            f"must be at most {MAX_SUFFIX_CHARACTERS} printable characters, such as -x4, without / and \\; "
            f"got {text!r}",
            context,
            parameter,
        )
    return text


result_options = options(
    click.option(
        "--format",
        type=click.Choice([SOURCE, *FORMATS]),
        default=SOURCE,
        show_default=True,
        help="In a folder: format of the results; source is the format of each input, or PNG if that format can "
        "only be read. With -o -, source is PNG.",
    ),
    click.option(
        "--quality",
        type=click.IntRange(1, 100),
        help="Quality of JPEG and WebP files; higher values give better and larger files. 100 makes WebP lossless. "
        " [default: 95]",
    ),
    click.option(
        "--suffix",
        default="",
        callback=_suffix,
        metavar="TEXT",
        help="In a folder: text to insert before the extension of each result's name, such as -x4.",
    ),
    click.option(
        "--no-metadata",
        is_flag=True,
        help="Do not copy EXIF, XMP, IPTC and the resolution. The colour profile is always copied, because colours "
        "would change without it. A result that cannot have the colour space of its source gives a warning.",
    ),
)
"""Options about the names, formats and contents of result files."""


@dataclass(frozen=True)
class SizeOptions:
    """Values of the options about the size of the results."""

    scale: float | None
    width: int | None
    height: int | None
    fit: tuple[int, int] | None

    def size(self, pipe: Pipeline, multiple: int = 1) -> Size | None:
        """Return the requested size; None is the model's own.

        Arguments:
            multiple: width and height are rounded to multiples of this number.

        Raises:
            InputError: if the model does not support other sizes.
        """
        ways = [self.scale is not None, self.width is not None or self.height is not None, self.fit is not None]
        if sum(ways) > 1:
            raise click.UsageError("--scale and --fit cannot be combined with each other, or with --width and --height")
        if not any(ways):
            return None
        size = Size(self.scale, self.width, self.height, self.fit, multiple)
        size.check_fits(pipe.manifest.model.scale)
        return size


def box(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """Parse the value of --fit into width and height."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,7})[x×](\d{1,7})", text)
    sides = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(1 <= side <= MAX_SIDE for side in sides):
        raise click.BadParameter(
            f"must be a width and a height from 1 to {MAX_SIDE}, such as 1920x1080; got {text!r}", context, parameter
        )
    return sides


size_options = options(
    click.option(
        "--scale",
        type=NumberRange(1, MAX_SCALE, min_open=True),
        help="Enlarge width and height by this factor, such as 2 or 1.5. Up to 1.5 times the model's factor, the "
        "model enlarges once, and its image is reduced or enlarged by a filter. For larger factors, which videos "
        "cannot have, the model enlarges again, which takes far longer.  [default: the model's factor]",
    ),
    click.option(
        "--width",
        type=click.IntRange(1, MAX_SIDE),
        help="Width of the result in pixels. Without --height, the aspect ratio of IN is kept.",
    ),
    click.option(
        "--height",
        type=click.IntRange(1, MAX_SIDE),
        help="Height of the result in pixels. Without --width, the aspect ratio of IN is kept.",
    ),
    click.option(
        "--fit",
        metavar="WxH",
        callback=box,
        help="Make the result as large as possible within this box. The aspect ratio of IN is kept.",
    ),
)
"""Options about the size of results, for models that enlarge."""
