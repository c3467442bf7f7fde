"""`caflow image`: draw N samples of each image in files and folders, and write the best one."""

import sys
from collections.abc import Set
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import click

from caflow_cli.command_error import FAILED, CommandError
from caflow_cli.console import CommandConsole, pass_console
from caflow_deploy.commands.execution_options import ExecutionOptions, workers_options
from caflow_deploy.commands.image_drawing import draw_folder, draw_one, list_all
from caflow_deploy.commands.image_models import ImageModel, ModelRunner, bundles_option, settings_of
from caflow_deploy.commands.jobs import is_for_one, plan_jobs, warn_of_results, with_input_files
from caflow_deploy.commands.option_values import FilePath, gathered
from caflow_deploy.commands.outcome_counter import OutcomeCounter
from caflow_deploy.commands.pipeline_options import (
    dry_run_option,
    json_option,
    max_pixels_option,
    quiet_option,
    running_options,
)
from caflow_deploy.commands.pipes import is_pipe, piped_images, refuse_beside
from caflow_deploy.commands.result_names import ResultNames
from caflow_deploy.commands.result_options import SizeOptions, result_options, size_options
from caflow_deploy.commands.sampling_options import (
    DegradationOptions,
    SamplingOptions,
    consistent_option,
    degradation_options,
    judge_option,
    redraws_option,
    rejecting_options,
    samples_option,
    sampling_options,
)
from caflow_deploy.images.image_files import MAX_BYTES_PER_PIXEL, MAX_OTHER_BYTES, WITH_16_BITS
from caflow_deploy.images.maps import names
from caflow_deploy.images.model_passes import Bits
from caflow_deploy.jobs.folder import exclusive_lock
from caflow_deploy.jobs.image_folder import (
    ImageFolder,
    ImageSettings,
    check_free,
    finished,
    holds_same_job,
    without_leftovers,
)
from caflow_deploy.jobs.image_job import ImageJob
from caflow_deploy.jobs.result_naming import FORMATS, SOURCE, ResultFiles
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.bundle.builtin import DEFAULT_FOR_INPUTS
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.named_inputs import check_takes

MASK_IS_MISSING = "{} fills in what a mask marks: also give --mask, an image that is white where something is to go"


@click.command("image")
@click.argument("inputs", metavar="IN...", type=FilePath(), nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=FilePath(path_type=Path),
    required=True,
    help="Folder for the results; or a file name, for a single image; or - for standard output.",
)
@bundles_option
@samples_option("Number of samples to draw of each image; the best one is written.")
@sampling_options
@consistent_option
@size_options
@click.option(
    "--bits",
    type=click.Choice(["8", "16"]),
    help="Bits per channel of the results; 16 requires PNG or TIFF.  [default: as in IN, if the format of the result "
    "supports it]",
)
@click.option(
    "--mask",
    type=FilePath(path_type=Path),
    help="Inpainting only: image of the size of IN whose white or transparent pixels mark what to fill; or a folder "
    "with one such image for each input image, of the same name.",
)
@click.option(
    "--hints",
    type=FilePath(path_type=Path),
    help="Colorization with hints only: image of the size of IN with dots or strokes of colour on a transparent "
    "background; or a folder with one such image for each input image, of the same name.",
)
@click.option(
    "--suggest-hints",
    metavar="N",
    type=click.IntRange(1, 1000),
    help="Colorization with hints only: also write NAME-suggested.png, the result with rings around the N places where "
    "further hints would help most; small images have fewer.",
)
@degradation_options
@click.option(
    "--keep-all", is_flag=True, help="Also write the other samples, as NAME-2.png, NAME-3.png …, in order of rank."
)
@click.option(
    "--sheet",
    is_flag=True,
    help="Also write NAME-sheet.png: the input, all samples with their likelihoods, and the uncertainty map.",
)
@click.option(
    "--maps",
    is_flag=True,
    help="Also write maps of where the result is unlikely, NAME-likelihood.png and one for each level, and of where "
    "the samples differ, NAME-uncertainty.png.",
)
@rejecting_options
@redraws_option
@judge_option
@result_options
@running_options
@workers_options
@max_pixels_option
@json_option
@quiet_option
@dry_run_option
@click.option("--force", is_flag=True, help="Start again, and overwrite existing results.")
@gathered(SamplingOptions, "sampling")
@gathered(ResultFiles, "files")
@gathered(SizeOptions, "sizing")
@gathered(DegradationOptions, "degradation")
@gathered(ExecutionOptions, "execution")
@pass_console
def command(
    console: CommandConsole,
    inputs: tuple[str, ...],
    output: Path,
    bundles: list[Path],
    execution: ExecutionOptions,
    sampling: SamplingOptions,
    files: ResultFiles,
    sizing: SizeOptions,
    degradation: DegradationOptions,
    bits: Literal["8", "16"] | None,
    mask: Path | None,
    hints: Path | None,
    suggest_hints: int | None,
    keep_all: bool,
    sheet: bool,
    maps: bool,
    max_pixels: int,
    dry_run: bool,
    force: bool,
) -> None:
    """Enlarge, colorize or inpaint the images IN, as the model does, and write the best of several samples of each.

    IN are files, folders with everything below them, or globs; - is standard input. Inside a folder, links to folders
    are not followed, and folders with results of earlier jobs are skipped. Write -- before an IN that begins with a
    dash. HEIC images require the extra heic. Animations are refused: caflow video enlarges them.

    Without --model, a model is chosen for each image, from the file alone: x4-real for noisy images and for JPEG files
    of a low quality, otherwise x4-photo. A line on standard error says which one and why. With --mask the model is
    inpaint-photo, and with --hints or --suggest-hints colour-hints.

    If -o names a folder, each result has the format of its input. If -o names a file, its extension chooses the format
    (.png, .jpg, .webp, .tiff, .bmp), and the exit code is 1 if --otherwise drop writes no file.
    EXIF, XMP, IPTC, the resolution and the colour profile are copied as far as both formats support it; a warning names
    the rest.

    In a folder, OUT/results.jsonl has a line for each image. The same command resumes after a stop: it processes the
    images that have no line yet, and those that were added or have changed. An image that fails, or a folder that
    cannot be read, is reported, and the others are still processed; the exit code is then 1. If two results would have
    the same name, the second name also gets the extension of its input, the name of its folder, or a number.

    Before the work begins, a line on standard error reports the sizes, the number of tiles, the memory required and,
    after a short trial, the time. An image that requires more memory than available is rejected. Progress and the
    remaining time are shown as a bar on a terminal, and otherwise as lines from time to time.
    """
    if is_pipe(output) and console.as_json and not dry_run:
        console.shows_messages = False  # standard error has the JSON objects
    _check_options(sampling, keep_all, sheet)
    beside = {name: place for name, place in (("mask", mask), ("hints", hints)) if place is not None}
    needed = [*beside, *(["hints"] if suggest_hints else [])]
    if len(bundles) > 1 and needed:
        bundles = [Path(DEFAULT_FOR_INPUTS[needed[0]])]
    if is_for_one(output) and (files.format != SOURCE or files.suffix):
        raise click.UsageError("--format and --suffix require a folder as -o, but this -o names a single file")
    refuse_beside(output, {"--keep-all": keep_all, "--sheet": sheet, "--maps": maps})
    most_bytes = MAX_BYTES_PER_PIXEL * max_pixels + MAX_OTHER_BYTES
    piped = piped_images(inputs, output, FORMATS.get(files.format, FORMATS["png"]), most_bytes)
    inputs, output = click.get_current_context().with_resource(piped)
    models = [ImageModel.open(replace(execution, bundle=bundle), sampling, max_pixels) for bundle in bundles]
    if execution.ray is not None:  # workers on a cluster have other working directories, so make paths absolute
        inputs, output = tuple(str(Path(text).absolute()) if text else text for text in inputs), output.absolute()
        beside = {name: place.absolute() for name, place in beside.items()}
    pipe, config = models[0].pipe, models[0].config
    size = sizing.size(pipe)
    extras = ["sheet"] * sheet + ["suggested"] * (suggest_hints is not None)
    extras += names(pipe.manifest.model.levels, 0 if config.reject else config.n) if maps else []
    unreadable: list[OSError] = []
    result_names = ResultNames(output, files, config.n - 1 if keep_all else 0, extras)
    warn_of_results(map(Path, inputs), console.warning, output)
    jobs = plan_jobs(inputs, result_names, force, unreadable.append)
    depth: Bits | None = None if bits is None else 16 if bits == "16" else 8
    assume = degradation.assume([one.pipe for one in models])
    judges_image = sampling.judge == "image"
    wanted = partial(replace, size=size, bits=depth, assume=assume, judges_image=judges_image)
    jobs = [wanted(job, suggested_hints=suggest_hints or 0) for job in jobs]
    _check_results(jobs, config, pipe.manifest.model.scale)
    for name in needed:
        check_takes(pipe.manifest.model, name)
    if mask is None and any(port.preparation == "fill" for port in pipe.manifest.model.inputs):
        raise CommandError(MASK_IS_MISSING.format(models[0].execution.bundle))
    for name, place in beside.items():
        jobs = with_input_files(jobs, name, place)
    is_single = is_for_one(output)
    tally = OutcomeCounter(len(jobs), config, console)
    for error in unreadable:
        tally.take_unreadable(error)
    written = partial(ImageSettings, keep_all=keep_all, sheet=sheet, maps=maps, files=files, size=size, bits=depth)
    settings = partial(written, judges_image=judges_image, assume=assume or None, suggest_hints=suggest_hints)
    if dry_run:
        done: Set[str] = set()
        if not force and is_single:
            check_free(path for job in jobs for path in job.outputs)
        elif not force and holds_same_job(output, jobs, settings(**settings_of(models))):
            done = finished(output, jobs)
        list_all(models, jobs, done, tally)
        return
    if is_single:
        draw_one(models, jobs, tally, force)
    else:
        # The job ends after its workers, which may write a result until they have ended.
        with (
            exclusive_lock(output),
            without_leftovers(jobs),
            ExitStack() as after_workers,
            ModelRunner(models[0]) as runner,
        ):
            images = ImageFolder(output, jobs, settings(**settings_of(models, runner.executor)), force)
            after_workers.callback(images.close)
            draw_folder(models, runner, images, tally)
    tally.end()
    if is_single and tally.outcomes["dropped"]:
        sys.exit(FAILED)  # the file that -o names was not written


def _check_options(sampling: SamplingOptions, keep_all: bool, sheet: bool) -> None:
    """Raise a `CommandError` if options contradict each other."""
    if sampling.redraws is not None and sampling.min_typicality is None:
        raise CommandError(
            "--redraws limits the samples that are drawn in place of those rejected by --min-typicality; also give "
            "--min-typicality"
        )
    if sampling.min_typicality and (keep_all or sheet):
        raise CommandError(
            "--min-typicality does not work with --keep-all and --sheet, which show all samples; give one or the other"
        )


def _check_results(jobs: list[ImageJob], config: DrawOptions, scale: int) -> None:
    """Check that the results can be judged and can have the requested bits.

    Raises:
        InputError: if --judge image does not fit the size, or --bits 16 does not fit the format.
    """
    for job in jobs:
        if job.is_judged(config) and job.size is not None and job.size.scale != scale:
            raise InputError(
                f"--judge image requires results of the model's own size, {scale} times the width and height of IN; "
                "give --judge sample, or remove --scale, --width, --height and --fit"
            )
        if job.bits == 16 and job.output.suffix.lower() not in WITH_16_BITS:
            raise InputError(f"{job.output}: --bits 16 requires a result in {', '.join(sorted(WITH_16_BITS))}")
