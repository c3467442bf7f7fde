"""`caflow batch`: what `caflow image`, `caflow filter` and `caflow video` do, on many machines."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource

from caflow_deploy.cluster.batch import Fleet, open_fleet
from caflow_deploy.commands.batch_video import draw_video
from caflow_deploy.commands.filter import check_job, report_job, run_job
from caflow_deploy.commands.jobs import make_folders, names_a_video, names_an_image, plan_jobs
from caflow_deploy.commands.options import (
    DrawingOptions,
    accepted_option,
    alpha_option,
    bundle_option,
    consistent_option,
    drawing_options,
    encoding_options,
    gathered,
    json_option,
    max_pixels_option,
    noise_option,
    open_pipeline,
    parquet_option,
    redraws_option,
    rejecting_options,
    samples_option,
    tiling_options,
)
from caflow_deploy.commands.tally import Tally
from caflow_deploy.commands.terminal import FAILED, end, ending_on_errors, progress_bar
from caflow_runtime.errors import BackendError, CaflowError, InputError
from caflow_runtime.jobs.folder import alone, settings_of_pipeline
from caflow_runtime.jobs.image_folder import ImageBatch, remove_partial, settings_of
from caflow_runtime.jobs.images import Done, Job, do
from caflow_runtime.jobs.pairs import FilePair, is_list, list_pairs
from caflow_runtime.jobs.verdict_folder import Accepted, FilterJob
from caflow_runtime.jobs.verdict_folder import settings_of as settings_of_filter
from caflow_runtime.jobs.verdicts import BATCH, judge
from caflow_runtime.judge.verdict import Verdict
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import Noise as StreamNoise
from caflow_runtime.rows.draw import Draw

Kind = Literal["images", "pairs", "a video"]
OF_DRAWING = {"samples", "temperature", "seed", "rank", "min_typicality", "untypical"}
OPTIONS: dict[Kind, set[str]] = {
    "images": OF_DRAWING | {"consistent", "redraws", "max_pixels"},
    "pairs": {"alpha", "accepted", "parquet", "max_pixels"},
    "a video": OF_DRAWING | {"noise", "codec", "crf", "segment_frames"},
}
"""That only such work has."""
SEGMENT_FRAMES = 240


@click.command("batch")
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=click.Path(path_type=Path),
    required=True,
    help="A folder; of a video, a name ending in .mp4 or .mkv.",
)
@bundle_option
@click.option(
    "--ray",
    "address",
    metavar="auto|HOST:PORT",
    help="A Ray cluster that is there; auto is the one that this machine belongs to. Its own ports are on all "
    "addresses of its machines: whoever reaches them may run code there, unless the cluster requires a token.  "
    "[default: this machine alone, whose ports are on the loopback address]",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    show_default="one per GPU, or else per --threads processors",
    help="Actors, each with the bundle in its memory.",
)
@click.option(  # not engines, which are of one kind of GPU
    "--backend", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="What runs it."
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of each worker, on the CPU.")
@tiling_options
@max_pixels_option
@samples_option("Images, video: of which the best is kept.")
@drawing_options
@consistent_option
@rejecting_options
@redraws_option
@alpha_option
@accepted_option
@parquet_option
@noise_option
@encoding_options
@click.option(
    "--segment-frames",
    type=click.IntRange(1),
    default=SEGMENT_FRAMES,
    show_default=True,
    help="Video: what a worker draws at once. As by default, the result is that of caflow video, byte by byte.",
)
@json_option
@click.option("--force", is_flag=True, help="Begin anew, whatever OUT holds.")
@click.pass_context
@gathered(DrawingOptions, "drawing")
def command(
    context: click.Context,
    inputs: tuple[str, ...],
    output: Path,
    bundle: Path,
    address: str | None,
    workers: int | None,
    backend: Literal["auto", "cpu", "cuda"],
    threads: int,
    pixel_budget: int | None,
    overlap: int | None,
    max_pixels: int,
    drawing: DrawingOptions,
    alpha: float,
    accepted: Accepted,
    parquet: bool,
    noise: StreamNoise,
    codec: Any,
    crf: int,
    segment_frames: int,
    as_json: bool,
    force: bool,
) -> None:
    """Do what caflow image does of images, caflow filter of a list of pairs, and caflow video of a file, on all
    machines of a Ray cluster.

    IN are images, folders or globs; or one list of pairs, or a folder with A and B in it; or one video. Results are
    those of these commands, with absolute paths. All machines must see IN, OUT and the bundle under the same paths. The
    same command again goes on after a stop; of images, OUT/results.jsonl then has a line for each.
    """
    with ending_on_errors():
        kind = kind_of(inputs)
        _check_options(context, kind)
    pipe = open_pipeline(bundle, "cpu", 1, pixel_budget, overlap)  # for checks alone: the workers have their own
    tiling = {"pixel_budget": pixel_budget, "overlap": overlap}
    output = output.absolute()
    with ending_on_errors():
        fleet = _fleet(pipe, bundle, address, backend, workers, threads, tiling)
        source = Path(inputs[0]).absolute()
        if kind == "a video":
            streaming = drawing.stream(noise, 1)
            draw_video(pipe, fleet, source, output, streaming, codec, crf, segment_frames, as_json, force, tiling)
        elif kind == "pairs":
            _judge(pipe, fleet, source, output, alpha, max_pixels, accepted, parquet, as_json, force, tiling)
        else:
            sources = [str(Path(text).absolute()) if text else text for text in inputs]
            draw = drawing.draw(pipe)
            _draw(pipe, fleet, sources, output, draw, max_pixels, as_json, force, tiling)


def kind_of(inputs: Iterable[str]) -> Kind:
    """What is to be done of it.

    Raises:
        InputError: if it is of several kinds.
    """

    inputs = tuple(inputs)
    for text in inputs:
        if names_a_video(Path(text)) or is_list(Path(text)):
            if len(inputs) > 1:
                raise InputError(f"{text}: wanted one video, or one list of pairs, and nothing else, or images alone")
            return "a video" if names_a_video(Path(text)) else "pairs"
    return "images"


def _check_options(context: click.Context, kind: Kind) -> None:
    """An option that does nothing is a mistake."""
    foreign = set().union(*OPTIONS.values()) - OPTIONS[kind]
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in foreign and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{parameter.opts[-1]} is not for {kind}, which IN are")


def _fleet(
    pipe: Pipeline,
    bundle: Path,
    address: str | None,
    backend: Literal["auto", "cpu", "cuda"],
    workers: int | None,
    threads: int,
    tiling: dict[str, int | None],
) -> AbstractContextManager[Fleet]:
    """Workers that open the bundle of a pipeline."""
    name = str(pipe.folder.absolute() if pipe.folder == bundle else bundle)  # of a built-in model each has its own
    given = {option: value for option, value in tiling.items() if value is not None}
    return open_fleet(address, name, settings_of_pipeline(pipe), backend, workers, threads, given)


def _draw(
    pipe: Pipeline,
    opening: AbstractContextManager[Fleet],
    inputs: list[str],
    output: Path,
    draw: Draw,
    max_pixels: int,
    as_json: bool,
    force: bool,
    tiling: dict[str, int | None],
) -> None:
    """All images that have no result yet."""

    if names_an_image(output) and not output.is_dir():
        raise InputError(f"{output}: wanted a folder, this names an image")
    jobs = plan_jobs(inputs, output, 0, [], force=True)
    tally = Tally(len(jobs), draw, as_json)
    with alone(output):
        try:
            with opening as fleet:
                settings = settings_of(pipe, inputs, draw, backend=fleet.backend, **tiling)
                images = ImageBatch(output, jobs, settings, force)
                make_folders(images.left)
                _run(images, images.run(_drawn(fleet, images.left, draw, max_pixels)), tally)
        finally:
            remove_partial(jobs)
    tally.end()


def _run(images: ImageBatch, drawn: Iterator[Done], tally: Tally) -> None:
    """Report each image as its line is written."""

    tally.outcomes.update(images.outcomes)
    done, count = len(images.jobs) - len(images.left), len(images.jobs)
    if not images.left:
        click.echo(f"{images.folder} is done already", tally.messages)
    try:
        with progress_bar() as progress:
            task = progress.add_task("images", total=count, completed=done)
            for one in drawn:
                tally.take(one)
                done += one.wrong is None or one.is_dropped
                progress.advance(task)
    except KeyboardInterrupt:
        end(f"stopped after {done} of {count} images: run the same command again to resume", FAILED)
    except (CaflowError, OSError) as error:
        end(f"{error}: {done} of {count} images are done; run the same command again to resume", FAILED)


def _drawn(fleet: Fleet, jobs: list[Job], draw: Draw, max_pixels: int) -> Iterator[Done]:

    for job, done in fleet.run(partial(do, draw=draw, max_pixels=max_pixels), jobs):
        yield done or Done(job, wrong=f"{job.source}: its worker died each time: perhaps memory is short")


def _judge(
    pipe: Pipeline,
    opening: AbstractContextManager[Fleet],
    source: Path,
    output: Path,
    alpha: float,
    max_pixels: int,
    accepted: Accepted,
    parquet: bool,
    as_json: bool,
    force: bool,
    tiling: dict[str, int | None],
) -> None:
    """All pairs that have no verdict yet."""

    pairs = list_pairs(source)
    check_job(pipe, source, output, pairs, alpha, accepted, parquet)
    with alone(output), opening as fleet:
        settings = settings_of_filter(pipe, pairs, alpha, backend=fleet.backend, max_pixels=max_pixels, **tiling)
        job = FilterJob(output, pairs, settings, force)
        is_new = run_job(job, _verdicts(fleet, job.left, alpha, max_pixels), accepted, parquet, as_json)
    report_job(job, alpha, is_new, as_json)


def _verdicts(fleet: Fleet, pairs: Sequence[FilePair], alpha: float, max_pixels: int) -> Iterator[Verdict]:
    """In the order of the list. Batches do not cross a multiple of `BATCH`: a worker gets what is between two."""

    batches = [pairs[k : k + BATCH] for k in range(0, len(pairs), BATCH)]
    do = partial(judge, alpha=alpha, max_pixels=max_pixels)
    for batch, verdicts in fleet.run(do, batches, most_in_part=1, in_order=True):
        if verdicts is None:
            raise BackendError(
                f"{batch[0].target} and what follows: its worker died each time: give fewer --workers, or begin anew, "
                "by --force, with a --pixel-budget"
            )
        yield from verdicts
