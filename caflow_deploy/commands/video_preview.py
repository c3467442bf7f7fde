"""`caflow video --at`: preview of one frame, before the whole video is drawn."""

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from caflow_deploy.commands.option_values import options
from caflow_deploy.commands.sampling_options import SamplingOptions
from caflow_deploy.commands.video_input import ticks
from caflow_runtime.errors import InputError
from caflow_runtime.image_io.alpha import draw_alpha
from caflow_runtime.image_io.image_files import check_suffix, write_image
from caflow_runtime.image_io.sheet import sheet
from caflow_runtime.jobs.folder import make_folder
from caflow_runtime.jobs.image_folder import check_free
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.sampling import sample_all, sample_best
from caflow_runtime.video.frame_source import CLOCK, Source
from caflow_runtime.video.open_source import frame_at
from caflow_runtime.video.transparency import without_alpha


@dataclass(frozen=True)
class PreviewOptions:
    """Values of the options about the preview."""

    at: int | None
    """Time of the frame, in ticks of `CLOCK` since the beginning of the source."""
    sheet: bool

    def __post_init__(self) -> None:
        if self.sheet and self.at is None:
            raise click.UsageError("--sheet shows the samples of one frame; also give --at TIME")


def write_preview(
    pipe: Pipeline, source: Source, output: Path, sampling: SamplingOptions, wanted: PreviewOptions, force: bool
) -> str:
    """Write the frame that is shown at the time `wanted.at` as `caflow image` would, or a sheet of all its samples.

    Returns:
        A line about the result.

    Raises:
        InputError: if an option does not fit, or the video has no such frame.
        UnreadableVideo: if the source cannot be read.
        OSError: if the image cannot be written.
    """
    assert wanted.at is not None
    check_suffix(output)
    if not force:
        check_free([output])
    if wanted.sheet and sampling.min_typicality:
        raise InputError("--min-typicality does not work with --sheet, which shows all samples; give one or the other")
    config = sampling.draw(pipe)
    frame = frame_at(source, wanted.at)
    colours, alpha = without_alpha(frame.image), None
    if wanted.sheet:
        samples = sample_all(pipe, colours, config)
        picture, bits = sheet(colours, samples), float(samples.bits_per_dim[0, 0])
    else:
        best = sample_best(pipe, colours, config)
        picture, bits = best.images[0], float(best.bits_per_dim[0])
        if source.info.has_alpha:
            alpha = draw_alpha(pipe, np.ascontiguousarray(frame.image[..., 3]), config)
    make_folder(output.parent)
    write_image(output, picture, alpha)
    seconds = float((frame.ticks - source.info.origin) * CLOCK)
    return f"{source.name} at {seconds:.3f} s → {output}  {bits:.3f} bits/dim"


preview_options = options(
    click.option(
        "--at",
        callback=ticks,
        metavar="TIME",
        help="Preview: write only the frame that is shown at this time of IN, in the format of --start, to the "
        "image -o NAME.png.",
    ),
    click.option("--sheet", is_flag=True, help="With --at: write all samples of the frame, with their likelihoods."),
)
"""Options about the preview of one frame."""
