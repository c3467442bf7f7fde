"""`caflow video --at`: one frame, before a video is made of all of them."""

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from caflow_deploy.commands.options import Command, DrawingOptions
from caflow_deploy.commands.video_input import ticks
from caflow_runtime.errors import InputError
from caflow_runtime.jobs.folder import make_folder
from caflow_runtime.jobs.image_folder import check_free
from caflow_runtime.pictures.alpha import draw_alpha
from caflow_runtime.pictures.image_files import check_suffix, write_image
from caflow_runtime.pictures.sheet import sheet
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.video.source import CLOCK, Source
from caflow_runtime.video.sources import frame_at
from caflow_runtime.video.transparency import colours_of


@dataclass(frozen=True)
class PreviewOptions:
    """What the command was told of a preview."""

    at: int | None
    """Ticks from the source's beginning on."""
    sheet: bool

    def __post_init__(self) -> None:
        if self.sheet and self.at is None:
            raise click.UsageError("--sheet shows one frame: give --at TIME, too")


def write_preview(
    pipe: Pipeline, source: Source, output: Path, drawing: DrawingOptions, wanted: PreviewOptions, force: bool
) -> None:
    """Write the frame that is shown at a time as `caflow image` would, or a sheet of all its samples.

    Raises:
        InputError, UnreadableVideo, OSError
    """
    assert wanted.at is not None
    check_suffix(output)
    if not force:
        check_free([output])
    if wanted.sheet and drawing.min_typicality:
        raise InputError("--min-typicality rejects samples that --sheet would show: give one or the other")
    draw = drawing.draw(pipe)
    frame = frame_at(source, wanted.at)
    colours, alpha = colours_of(frame.image), None
    if wanted.sheet:
        samples = pipe.draw_all(colours, draw)
        picture, bits = sheet(colours, samples), float(samples.bits_per_dim[0, 0])
    else:
        best = pipe.draw_best(colours, draw)
        picture, bits = best.images[0], float(best.bits_per_dim[0])
        if source.info.has_alpha:
            alpha = draw_alpha(pipe, np.ascontiguousarray(frame.image[..., 3]), draw)
    make_folder(output.parent)
    write_image(output, picture, alpha)
    seconds = float((frame.ticks - source.info.origin) * CLOCK)
    click.echo(f"{source.name} at {seconds:.3f} s → {output}  {bits:.3f} bits/dim")


def preview_options(command: Command) -> Command:
    """Of one frame alone."""
    for option in (
        click.option("--sheet", is_flag=True, help="With --at: all samples of the frame, with their likelihoods."),
        click.option(
            "--at",
            callback=ticks,
            metavar="TIME",
            help="A preview: write the frame that is shown at that time to -o NAME.png.",
        ),
    ):
        command = option(command)
    return command
