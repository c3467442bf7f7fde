"""`caflow image`: files and folders of images in, the best of N samples out."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import click
from rich.progress import Progress

from caflow_deploy.cluster.fleet import Fleet, Work
from caflow_deploy.cluster.local import LocalFleet
from caflow_deploy.commands.image_progress import ImageProgress, line_of_folder, line_of_image, needs_by_header
from caflow_deploy.commands.jobs import is_for_one, make_folders, plan_jobs, with_masks
from caflow_deploy.commands.options import (
    DrawingOptions,
    bundle_option,
    consistent_option,
    drawing_options,
    gathered,
    json_option,
    judge_option,
    max_pixels_option,
    metrics_option,
    numbers,
    open_metrics,
    redraws_option,
    rejecting_options,
    running_options,
    samples_option,
)
from caflow_deploy.commands.pace import Saying, saying_options
from caflow_deploy.commands.result_options import result_options
from caflow_deploy.commands.running import Running, workers_options
from caflow_deploy.commands.size_options import SizeOptions, size_options
from caflow_deploy.commands.standard_streams import piped_images, refuse_beside
from caflow_deploy.commands.tally import Tally
from caflow_deploy.commands.terminal import FAILED, end, ending_on_errors, progress_bar
from caflow_deploy.stops import exit_code
from caflow_runtime.errors import CaflowError, InputError
from caflow_runtime.health.metrics import Metrics
from caflow_runtime.jobs.folder import alone
from caflow_runtime.jobs.image_folder import ImageFolder, ImageSettings, check_free, without_leftovers
from caflow_runtime.jobs.image_job import ImageJob
from caflow_runtime.jobs.image_need import check_together
from caflow_runtime.jobs.images import Done, Watch, do, look, refusal
from caflow_runtime.jobs.masks import check_fills
from caflow_runtime.jobs.passes import Bits
from caflow_runtime.jobs.result_files import FORMATS, SOURCE, ResultFiles
from caflow_runtime.pictures.image_files import MOST_BYTES_PER_PIXEL, MOST_OTHER_BYTES, WITH_16_BITS
from caflow_runtime.pictures.maps import names
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.rows.draw import Draw


@click.command("image")
@click.argument("inputs", metavar="IN...", type=click.Path(), nargs=-1, required=True)
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
@size_options
@click.option(
    "--bits",
    type=click.Choice(["8", "16"]),
    help="Per channel of the results; 16 is for PNG and TIFF.  [default: as IN, where the format of the result can]",
)
@click.option(
    "--mask",
    type=click.Path(path_type=Path),
    help="Inpainting: an image as large as IN whose white pixels are filled; or a folder with one for each image, of "
    "the same name.",
)
@click.option("--keep-all", is_flag=True, help="Write the other samples too, as NAME-2.png …, in order of rank.")
@click.option("--sheet", is_flag=True, help="Write NAME-sheet.png: input, samples with their likelihoods, uncertainty.")
@click.option("--maps", is_flag=True, help="Write NAME-likelihood.png, one for each level, and NAME-uncertainty.png.")
@rejecting_options
@redraws_option
@judge_option
@result_options
@running_options
@workers_options
@max_pixels_option
@metrics_option
@json_option
@saying_options
@click.option("--force", is_flag=True, help="Begin anew, and overwrite files that are there already.")
@gathered(Saying, "saying")
@gathered(DrawingOptions, "drawing")
@gathered(ResultFiles, "files")
@gathered(SizeOptions, "sized")
@gathered(Running, "running")
def command(
    inputs: tuple[str, ...],
    output: Path,
    running: Running,
    drawing: DrawingOptions,
    files: ResultFiles,
    sized: SizeOptions,
    bits: Literal["8", "16"] | None,
    mask: Path | None,
    keep_all: bool,
    sheet: bool,
    maps: bool,
    max_pixels: int,
    metrics_port: int | None,
    as_json: bool,
    saying: Saying,
    force: bool,
) -> None:
    """Make images from IN: files, folders with all below them, or globs. Of each, the best of several samples is
    written: into a folder, in the format of its source, or, of one image, in the format that the name of -o ends in
    (.png, .jpg, .webp, .tiff, .bmp). EXIF, XMP, IPTC, the resolution and the colour profile are copied. - is standard
    input, and standard output.

    In a folder, OUT/results.jsonl has a line for each image, and the same command resumes after a stop: it does what
    has no line yet, and images that were added to IN or have changed. A file that cannot be done is reported and the
    others are done; the exit code is then 1. Where two results would have one name, the second one's is followed by
    the suffix of its source, the name of its folder, or a number.

    Before the work begins a line on standard error says what is made, in how many windows, and how much memory that
    takes; an image for which there is too little is refused. How far the work is, and how long the rest will take, is
    shown on a terminal, and else said in lines at intervals.
    """
    saying.hush()
    saying = saying.beside(output, as_json)
    _check_options(drawing, keep_all, sheet, maps)
    if is_for_one(output) and (files.format != SOURCE or files.suffix):
        raise click.UsageError("--format and --suffix are for folders: here -o names the file")
    running.refuse({"--metrics": metrics_port is not None})
    refuse_beside(output, {"--keep-all": keep_all, "--sheet": sheet, "--maps": maps})
    most_bytes = MOST_BYTES_PER_PIXEL * max_pixels + MOST_OTHER_BYTES
    piped = piped_images(inputs, output, FORMATS.get(files.format, FORMATS["png"]), most_bytes)
    with ending_on_errors():
        inputs, output = click.get_current_context().with_resource(piped)
    pipe = running.open_pipeline()
    if running.ray is not None:  # whose workers have other working directories
        inputs, output = tuple(str(Path(text).absolute()) if text else text for text in inputs), output.absolute()
        mask = mask and mask.absolute()
    with ending_on_errors():
        draw, size = drawing.draw(pipe), sized.size(pipe)
        extras = ["sheet"] * sheet + (names(pipe.manifest.model.levels, 0 if draw.reject else draw.n) if maps else [])
        jobs = plan_jobs(inputs, output, draw.n - 1 if keep_all else 0, extras, files, force)
        depth: Bits | None = None if bits is None else 16 if bits == "16" else 8
        jobs = [replace(job, size=size, bits=depth) for job in jobs]
        _check_results(jobs, draw, pipe.manifest.model.scale)
        if mask is not None:
            check_fills(pipe.manifest.model)
            jobs = with_masks(jobs, mask)
    with ExitStack() as stack:
        tally = Tally(len(jobs), draw, as_json, saying)
        if saying.dry_run:
            with ending_on_errors():
                _say_all(pipe, draw, jobs, max_pixels, tally)
            return
        metrics = open_metrics(stack, metrics_port, pipe, drawing.temperature, measures_drift=not drawing.keep)
        work = ImageWork(pipe, draw, max_pixels, metrics, stack.enter_context(progress_bar(saying.quiet)))
        if is_for_one(output):
            with ending_on_errors():
                _draw_one(work, running, jobs, tally, force)
        else:
            with ending_on_errors(), alone(output), without_leftovers(jobs), running.open_fleet(pipe) as fleet:
                pipeline = running.settings(pipe, fleet)
                settings = ImageSettings(pipeline, draw, keep_all, sheet, maps, files, size, depth)
                _draw_folder(work, fleet, ImageFolder(output, jobs, settings, force), tally)
    tally.end()


@dataclass(frozen=True)
class ImageWork:
    """What is done with each image."""

    pipe: Pipeline
    draw: Draw
    max_pixels: int
    metrics: Metrics | None
    progress: Progress

    def run(self, fleet: Fleet | None, jobs: Sequence[ImageJob], progress: ImageProgress) -> Iterator[Done]:
        """Do all jobs: here, one after the other, or by workers, as they are done."""
        if fleet is None:
            watch = Watch(progress.begins, progress.windows)
            found = (do(self.pipe, job, self.draw, watch, self.metrics, self.max_pixels) for job in jobs)
        else:
            by_workers = fleet.run(Work(partial(do, draw=self.draw, max_pixels=self.max_pixels), jobs))
            died = "its worker died each time: perhaps memory is short"
            found = (done or Done(job, wrong=f"{job.source}: {died}") for job, done in by_workers)
        for done in found:
            progress.finished(done.job)
            yield done


def _check_options(drawing: DrawingOptions, keep_all: bool, sheet: bool, maps: bool) -> None:
    """End the command where options contradict each other."""
    if drawing.keep and (keep_all or sheet or maps):
        end("--keep drops samples that --keep-all, --sheet and --maps would show: give one or the other")
    if drawing.min_typicality and drawing.keep:
        end("--keep drops samples unseen, so --min-typicality cannot reject them: give one or the other")
    if drawing.min_typicality and (keep_all or sheet):
        end("--min-typicality rejects samples that --keep-all and --sheet would show: give one or the other")


def _check_results(jobs: list[ImageJob], draw: Draw, scale: int) -> None:
    """Whether results can be what they are to be.

    Raises:
        InputError
    """
    for job in jobs:
        if draw.judges == "image" and job.size is not None and job.size.scale != scale:
            raise InputError(
                f"--judge image judges the image as it is written, which is known of images of {scale} times the sides "
                "of IN alone: give --judge sample, or no other size"
            )
        if job.bits == 16 and job.output.suffix.lower() not in WITH_16_BITS:
            raise InputError(f"{job.output}: --bits 16 is for {', '.join(sorted(WITH_16_BITS))}")


def _draw_one(work: ImageWork, running: Running, jobs: list[ImageJob], tally: Tally, force: bool) -> None:
    """One file to one file.

    Raises:
        InputError: before it is drawn.
    """
    if running.is_spread:
        raise InputError(f"{jobs[0].output}: --workers and --ray are for folders: wanted one, this names an image")
    if not force:
        check_free(path for job in jobs for path in job.outputs)
    make_folders(jobs)
    progress = ImageProgress(work.progress, tally.saying, {}, len(jobs))
    try:
        for done in work.run(None, jobs, progress):
            tally.take(done)
    except KeyboardInterrupt as stop:
        end("stopped before the image was done", exit_code(stop))


def _plan_folder(work: ImageWork, fleet: Fleet | None, jobs: Sequence[ImageJob], tally: Tally) -> ImageProgress:
    """Say what is to be done.

    Raises:
        TooLittleMemory: if the workers do not all fit.
    """
    needs = needs_by_header(work.pipe, work.draw, jobs)
    processes = fleet.size if isinstance(fleet, LocalFleet) else 1
    tally.saying.say(line_of_folder(needs, len(jobs), work.draw.n, processes))
    check_together((need.bytes for need in needs.values()), processes)
    return ImageProgress(work.progress, tally.saying, needs, len(jobs))


def _say_all(pipe: Pipeline, draw: Draw, jobs: Sequence[ImageJob], max_pixels: int, tally: Tally) -> None:
    """Say of each image what would be done, and why it would be refused."""
    for job in jobs:
        try:
            _, need = look(pipe, job, draw, max_pixels)
        except (CaflowError, OSError) as error:
            tally.take(Done(job, wrong=refusal(job, error)))
        else:
            tally.saying.say(line_of_image(job, need))
    tally.end_of_failed()


def _draw_folder(work: ImageWork, fleet: Fleet | None, images: ImageFolder, tally: Tally) -> None:
    """All images that have no result yet; each is reported as its line is written."""
    make_folders(images.left)
    tally.outcomes.update(images.outcomes)
    done, count = len(images.jobs) - len(images.left), len(images.jobs)
    if not images.left:
        click.echo(f"{images.folder} is done already", tally.messages)
        return
    progress = _plan_folder(work, fleet, images.left, tally)
    task = work.progress.add_task("images", total=count, completed=done)
    again = "run the same command again to resume"
    try:
        for one in images.run(work.run(fleet, images.left, progress)):
            tally.take(one)
            done += one.wrong is None or one.is_dropped
            work.progress.advance(task)
    except KeyboardInterrupt as stop:
        end(f"stopped after {done} of {count} images: {again}", exit_code(stop))
    except (CaflowError, OSError) as error:
        end(f"{error}: {done} of {count} images are done; {again}", FAILED)
