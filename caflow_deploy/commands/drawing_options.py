"""Options that say how samples are drawn, what is known of the input, and which files of which size are written."""

import re
from collections.abc import Sequence

import click

from caflow_cli.field_options import field_option, field_options
from caflow_cli.option_values import options
from caflow_deploy.images.open_models import RunOptions
from caflow_deploy.jobs.result_naming import ResultFiles
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.sampling import check_calibrated
from caflow_runtime.pipeline.stream import FrameNoise, FrameOptions
from caflow_runtime.sizes import MAX_SIDE, Size

drawing_options = field_options(DrawOptions, "n", "temperature", "seed", "rank")
"""Options that say how samples are drawn, and which of them is the best."""
rejecting_options = field_options(DrawOptions, "min_typicality", "otherwise")
"""Options that say which results are untypical, and what becomes of them."""


def draw_options_for(pipe: Pipeline, draw: DrawOptions) -> DrawOptions:
    """Return the options for a model, with its own temperature and ranking where they are not given.

    Raises:
        InputError: if the model or its calibration does not support them.
    """
    found = draw.for_model(pipe.manifest)
    if found.needs_calibration:
        check_calibrated(pipe.calibration, found)
    return found


def _noise(context: click.Context, parameter: click.Parameter, text: str) -> FrameNoise:
    """Parse the value of --noise."""
    if text in ("fixed", "fresh"):
        return text  # type: ignore[return-value]
    try:
        return float(text)
    except ValueError:
        message = f"must be fixed, fresh, or a number above 0 and below 1; got {text!r}"
        raise click.BadParameter(message, context, parameter) from None


frame_options = options(
    field_option(FrameOptions, "noise", callback=_noise, type=str, metavar="fixed|fresh|ρ"),
    field_option(FrameOptions, "batch"),
)
"""Options that say how the frames of a video are drawn."""


def _assumed(context: click.Context, parameter: click.Parameter, given: Sequence[str]) -> dict[str, float]:
    """Parse the values of --assume."""
    try:
        return {name: float(value) for name, _, value in (text.partition("=") for text in given)}
    except ValueError:
        message = f"must be a name and a number, such as noise=5; got {' '.join(given)!r}"
        raise click.BadParameter(message, context, parameter) from None


mask_marks_option = field_option(RunOptions, "mask_marks")
assume_option = field_option(RunOptions, "assume", callback=_assumed, metavar="NAME=VALUE", multiple=True, default=())


def check_assumed(assume: dict[str, float], pipes: Sequence[Pipeline]) -> None:
    """Check that values of --assume are valid, and that a model of the command is told of them.

    Raises:
        InputError: if they are not.
    """
    told = [pipe for pipe in pipes if pipe.is_told_degradation]
    if assume and not told:
        raise InputError(
            "--assume is for models that are told how their input was degraded, and this model is not: omit it, or use "
            "another --model"
        )
    for pipe in told:
        pipe.assuming(assume)


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
