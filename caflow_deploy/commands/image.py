"""`caflow image`: files and folders of images in, the best of N samples out."""

from contextlib import ExitStack
from pathlib import Path

import click

from caflow_deploy.commands.jobs import make_folders, plan_jobs
from caflow_deploy.commands.options import (
    DrawingOptions,
    bundle_option,
    consistent_option,
    drawing_options,
    gathered,
    json_option,
    max_pixels_option,
    metrics_option,
    numbers,
    open_metrics,
    open_pipeline,
    redraws_option,
    rejecting_options,
    running_options,
    samples_option,
)
from caflow_deploy.commands.tally import Tally
from caflow_deploy.commands.terminal import FAILED, end, ending_on_errors, progress_bar
from caflow_runtime.health.metrics import Metrics
from caflow_runtime.jobs.images import Job, do
from caflow_runtime.pictures.maps import names
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.rows.draw import Draw


@click.command("image")
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="A folder; or a file, for one image."
)
@bundle_option
@samples_option("Of which the best is kept.")
@drawing_options
@click.option(
    "--keep",
    metavar="N,N,…",
    callback=numbers,
    help="Progressive: samples that run at each level, from -n down. Faster; what is dropped might have won.",
)
@consistent_option
@click.option("--keep-all", is_flag=True, help="Write the other samples too, as NAME-2.png …, in order of rank.")
@click.option("--sheet", is_flag=True, help="Write NAME-sheet.png: input, samples with their likelihoods, uncertainty.")
@click.option("--maps", is_flag=True, help="Write NAME-likelihood.png, one for each level, and NAME-uncertainty.png.")
@rejecting_options
@redraws_option
@running_options
@max_pixels_option
@metrics_option
@json_option
@click.option("--force", is_flag=True, help="Overwrite files that are there already.")
@gathered(DrawingOptions, "drawing")
def command(
    inputs: tuple[str, ...],
    output: Path,
    bundle: Path,
    drawing: DrawingOptions,
    keep_all: bool,
    sheet: bool,
    maps: bool,
    backend: str,
    threads: int,
    pixel_budget: int | None,
    overlap: int | None,
    max_pixels: int,
    metrics_port: int | None,
    as_json: bool,
    force: bool,
) -> None:
    """Make images from IN: files, folders with all below them, or globs. Of each, the best of several samples is
    written: as PNG into a folder, or, of one image, in the format that the name of -o ends in (.png, .jpg, .webp,
    .tiff, .bmp).

    A file that cannot be done is reported and the others are done; the exit code is then 1.
    """
    keep, min_typicality = drawing.keep, drawing.min_typicality
    if keep and (keep_all or sheet or maps):
        end("--keep drops samples that --keep-all, --sheet and --maps would show: give one or the other")
    if min_typicality and keep:
        end("--keep drops samples unseen, so --min-typicality cannot reject them: give one or the other")
    if min_typicality and (keep_all or sheet):
        end("--min-typicality rejects samples that --keep-all and --sheet would show: give one or the other")
    pipe = open_pipeline(bundle, backend, threads, pixel_budget, overlap)
    with ending_on_errors():
        draw = drawing.draw(pipe)
        extras = ["sheet"] * sheet + (
            names(pipe.manifest.model.levels, 0 if min_typicality else draw.n) if maps else []
        )
        jobs = plan_jobs(inputs, output, draw.n - 1 if keep_all else 0, extras, force)
        make_folders(jobs)
    with ExitStack() as stack:
        metrics = open_metrics(stack, metrics_port, pipe, drawing.temperature, measures_drift=not keep)
        _run(pipe, jobs, draw, max_pixels, as_json, metrics)


def _run(
    pipe: Pipeline,
    jobs: list[Job],
    draw: Draw,
    max_pixels: int,
    as_json: bool,
    metrics: Metrics | None,
) -> None:
    """Do all jobs and report each, and at the end what failed and what was untypical."""

    tally = Tally(len(jobs), draw, as_json)
    with progress_bar() as progress:
        files = progress.add_task("images", total=len(jobs))
        windows = progress.add_task("this image", visible=False)

        def show(done: int, count: int) -> None:
            progress.update(windows, completed=done, total=count, visible=True)

        try:
            for job in jobs:
                tally.take(do(pipe, job, draw, show, metrics, max_pixels))
                progress.advance(files)
        except KeyboardInterrupt:
            end(f"stopped after {tally.done} of {len(jobs)} images: caflow batch is for many, and goes on", FAILED)
    tally.end()
