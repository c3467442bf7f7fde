"""`caflow calibrate`: learn from photographs what is typical, and write it into a bundle."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
import msgspec

from caflow_cli.command_error import FAILED, CommandError
from caflow_cli.console import CommandConsole, pass_console, resuming
from caflow_cli.stops import exit_code
from caflow_deploy.commands.execution_options import ExecutionOptions, workers_option
from caflow_deploy.commands.field_options import gathered
from caflow_deploy.commands.jobs import warn_of_results
from caflow_deploy.commands.option_values import FilePath, numbers
from caflow_deploy.commands.pipeline_options import bundle_argument, max_pixels_option, running_options
from caflow_deploy.commands.progress_reporter import ProgressReporter
from caflow_deploy.filtering.calibrate import Survey, learn_calibration
from caflow_deploy.filtering.calibration_job import (
    FOLDER,
    CalibrationJob,
    CalibrationSettings,
    PhotographCrops,
    measure_photograph,
    survey_photographs,
)
from caflow_deploy.images.job_file import JOB_FILE
from caflow_deploy.images.pairs import holds_pairs
from caflow_deploy.images.photographs import Photograph, photographs_in
from caflow_deploy.jobs.executor import Executor
from caflow_deploy.jobs.folder import exclusive_lock
from caflow_runtime.bundle.builtin import find_bundle
from caflow_runtime.errors import CaflowError, InputError, format_error
from caflow_runtime.ood import calibration
from caflow_runtime.ood.calibration import Calibration, WrongCalibration, read_calibration
from caflow_runtime.ood.coverage import Coverage
from caflow_runtime.ood.typicality_model import TypicalityModel
from caflow_runtime.pipeline.pipeline import Pipeline

ENOUGH = 100
"""Number of photographs below which a warning is printed. With 100, a fraction of 0.05 is known to ±0.04."""
MIN_MULTIPLES = 2
"""Smallest side of the crops, in size multiples of the model. Smaller crops give no usable calibration."""
SIDES, TEMPERATURES = "64,128,256", "0,0.5,0.7,0.8,0.9,1"


def temperatures_of(context: click.Context, parameter: click.Parameter, text: str) -> list[float]:
    """Parse the value of --temperatures."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [-1.0]
    if not all(0 <= value < float("inf") for value in found) or len(set(found)) < len(found):
        raise click.BadParameter(
            f"must be different numbers of at least 0, separated by commas, such as 0.8,1; got {text!r}",
            context,
            parameter,
        )
    return sorted(found)


@click.command("calibrate")
@bundle_argument
@click.option(
    "--data",
    type=FilePath(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Folder of photographs that the model was not trained on. Or a folder with the subfolders A (conditions) and "
    "B (targets), paired as caflow filter pairs them; all pairs in one folder below A and B count as one photograph. "
    "Models that complete images require such pairs: masks or hints in A, photographs in B.",
)
@click.option(
    "--sides",
    default=SIDES,
    callback=numbers,
    show_default=True,
    help="Widths of the square crops to learn from, in pixels of the target, separated by commas. They must be at "
    "least twice the number to which the model pads sizes, which caflow info prints.",
)
@click.option(
    "--temperatures",
    default=TEMPERATURES,
    callback=temperatures_of,
    show_default=True,
    help="Temperatures of the samples to learn from, separated by commas: every --temperature that you will draw with.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the crops and samples."
)
@click.option("--force", is_flag=True, help="Overwrite an existing calibration.")
@running_options
@workers_option
@max_pixels_option
@gathered(ExecutionOptions, "execution")
@pass_console
def command(
    console: CommandConsole,
    execution: ExecutionOptions,
    data: Path,
    sides: list[int],
    temperatures: list[float],
    seed: int,
    force: bool,
    max_pixels: int,
) -> None:
    """Learn from photographs which likelihoods are typical, and write them into BUNDLE.

    True images and samples are learned separately, coloured and grey, by size and complexity. The command also measures
    how well the spread of the samples covers the true images. A reliable calibration takes some hundred photographs.

    The same command resumes after a stop. Until the end, BUNDLE/calibration.work contains the measures of the
    photographs that are finished.
    """
    _check_free(find_bundle(execution.bundle), force)
    # An existing calibration may be damaged or belong to another bundle, so do not read it. It is replaced at the end.
    pipe = execution.open_pipeline(is_calibrated=False)
    if not os.access(pipe.folder, os.W_OK):
        raise InputError(f"{pipe.folder} is not writable; calibrate a copy of it")
    photographs = _photographs(pipe, data, sides, console)
    pipeline = msgspec.structs.replace(execution.settings(pipe), calibration=None)
    settings = CalibrationSettings(pipeline, sides, temperatures, seed, max_pixels)
    work = pipe.folder / FOLDER
    with exclusive_lock(work), execution.open_executor(pipe, is_calibrated=False) as executor:
        crops, survey = _survey(pipe, photographs, settings, console)
        job = CalibrationJob(work, crops, settings, force)
        _measure(executor, job, len(crops), settings, console)
        found = learn_calibration(pipe, survey, job.measures, temperatures, seed)
        calibration.write_calibration(pipe.folder, found)
        job.remove()
    _print_calibration(pipe, found, console)


def _survey(
    pipe: Pipeline, photographs: Sequence[Photograph], settings: CalibrationSettings, console: CommandConsole
) -> tuple[list[PhotographCrops], Survey]:
    """Read all photographs.

    Raises:
        InputError: if too few of them can be used.
    """
    with console.progress_bar() as bar:
        read = bar.track(photographs, description="reading photographs")
        crops, survey = survey_photographs(read, pipe, settings, lambda why: console.warning(f"skipped: {why}"))
    survey.check()
    return crops, survey


def _measure(
    executor: Executor, job: CalibrationJob, count: int, settings: CalibrationSettings, console: CommandConsole
) -> None:
    """Measure the crops of all photographs that are left. Stops and errors end the command, which can be resumed."""
    left = job.left
    done = count - len(left)
    function = partial(measure_photograph, settings=settings)
    try:
        with console.progress_bar() as bar:
            task = bar.add_task("photographs", total=count, completed=done)
            pace = ProgressReporter(console.message if bar.disable else None)
            for line in executor.results(function, left, lambda crops: str(crops.photograph.path)):
                job.write(line)
                done += 1
                bar.advance(task)
                pace.tell((done - count + len(left)) / len(left), f"{done} of {count} photographs")
    except KeyboardInterrupt as stop:
        raise CommandError(f"stopped: {resuming(done, count, 'photograph')}", exit_code(stop)) from None
    except (CaflowError, OSError) as error:
        raise CommandError(f"{format_error(error)}: {resuming(done, count, 'photograph')}", FAILED) from None


def _print_calibration(pipe: Pipeline, found: Calibration, console: CommandConsole) -> None:
    """Print what was learned."""
    rows = []
    for typicality_model in (found.truth, *found.samples):
        name = (
            "true images" if typicality_model.temperature is None else f"samples, τ = {typicality_model.temperature:g}"
        )
        bits = typicality_model.main.bits_per_dim
        low, middle, high = (bits[k * (len(bits) - 1) // 20] for k in (1, 10, 19))
        rows.append([name, f"{low:.3f}", f"{middle:.3f}", f"{high:.3f}"])
    console.table(["bits/dim of", "5 %", "median", "95 %"], rows)
    _print_groups(found.truth, console)
    if found.coverage:
        _print_coverage(found.coverage, console)
    console.result(f"{pipe.folder}: calibrated with {found.truth.images} crops of {found.photographs} photographs")
    if found.photographs < ENOUGH:
        console.warning(
            f"fewer than {ENOUGH} photographs: the fraction of good images that is rejected may differ from α"
        )


def _print_groups(truth: TypicalityModel, console: CommandConsole) -> None:
    """Print the groups of images that the calibration distinguishes, with the smallest typicality of each."""
    kinds = (("coloured", truth.coloured), ("grey", truth.grey))
    rows = [
        [", ".join(part for part in (word, group.name) if part), str(group.images), f"{1 / (group.images + 1):.2g}"]
        for word, kind in kinds
        if kind
        for group in kind.groups
    ]
    console.table(["groups of images", "crops", "smallest typicality"], rows)


def _print_coverage(coverage: list[Coverage], console: CommandConsole) -> None:
    """Print how often the true image lies between the lowest and the highest sample, and how often it should."""
    rows = [
        [f"level {one.level}, {one.quantity}s of blocks", f"{one.inside:.0%}", f"{one.expected:.0%}"]
        for one in coverage
    ]
    first = coverage[0]
    title = f"true images among {len(first.counts) - 1} samples, τ = {first.temperature:g}"
    console.table([title, "inside", "expected"], rows)


def _check_free(folder: Path, force: bool) -> None:
    """Refuse to overwrite a valid calibration without `force`: without BUNDLE it would be the built-in model's own.

    A job that was stopped may overwrite it, because it was begun with `force`.
    """
    if (folder / FOLDER / JOB_FILE).is_file():
        return
    try:
        found = read_calibration(folder)
    except WrongCalibration:
        return
    if found is not None and not force:
        raise InputError(
            f"{folder} is calibrated already; calibrate a copy of it, or give --force to overwrite the calibration"
        )


def _photographs(pipe: Pipeline, data: Path, sides: list[int], console: CommandConsole) -> list[Photograph]:
    """Return the photographs to learn from.

    Raises:
        InputError: if there are fewer than two photographs, or crops would be too small.
    """
    if not holds_pairs(data):
        warn_of_results([data], console.warning)
    photographs = photographs_in(data)
    names = {photograph.name for photograph in photographs}
    if len(names) < 2:
        raise InputError(
            f"{data}: expected at least 2 photographs; found {len(names)}. All pairs in one folder below A and B count "
            "as one photograph"
        )
    smallest = MIN_MULTIPLES * pipe.manifest.model.size_multiple
    if min(sides) < smallest and any(photograph.condition is None for photograph in photographs):
        raise InputError(f"--sides must be at least {smallest} pixels for this model; got {min(sides)}")
    return photographs
