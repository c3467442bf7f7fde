"""Options about the results: their files and their size."""

import re

import click

from caflow_cli.field_options import field_option, field_options
from caflow_cli.option_values import options
from caflow_deploy.jobs.result_naming import ResultFiles
from caflow_runtime.sizes import MAX_SIDE, Size

result_options = field_options(ResultFiles, "format", "quality", "suffix", "metadata", "keep_all", "sheet", "maps")
"""Options about the files that are written for each image."""
hints_option = field_option(ResultFiles, "suggest_hints", metavar="N")


def _box(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, int] | None:
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
    field_options(Size, "scale", "width", "height"), field_option(Size, "fit", metavar="WxH", callback=_box)
)
"""Options about the size of results, for models that enlarge. They become a `Size`, or None if none is given."""
