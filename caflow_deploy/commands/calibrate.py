"""`caflow calibrate`: learn from photographs what is typical, and write it into a bundle."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.progress import Progress

from caflow_cli.command_error import FAILED, CommandError
from caflow_cli.console import CommandConsole, command_console, resuming
from caflow_cli.field_options import field_option, gathered
from caflow_cli.option_values import FilePath
from caflow_cli.stops import exit_code
from caflow_deploy.commands.execution_options import ExecutionOptions, workers_option
from caflow_deploy.commands.jobs import warn_of_results
from caflow_deploy.commands.pipeline_options import bundle_argument, max_pixels_option, running_options
from caflow_deploy.commands.progress_reporter import ProgressReporter
from caflow_deploy.filtering.calibrate_model import (
    CalibrateOptions,
    CalibrationProgress,
    calibrate_pipeline,
    check_free,
    settings_for,
)
from caflow_deploy.images.pairs import holds_pairs
from caflow_deploy.images.photographs import Photograph
from caflow_runtime.bundle.builtin import find_bundle
from caflow_runtime.errors import CaflowError, format_error
from caflow_runtime.ood.calibration import Calibration
from caflow_runtime.ood.coverage import Coverage
from caflow_runtime.ood.typicality_records import TypicalityModel
from caflow_runtime.pipeline.pipeline import Pipeline

ENOUGH = 100
"""Number of photographs below which a warning is printed. With 100, a fraction of 0.05 is known to ±0.04."""
EXAMPLES = {int: "integers separated by commas, such as 64,128", float: "numbers separated by commas, such as 0.8,1"}


def _listed(kind: type) -> Any:
    """Return the parser of an option whose value is a list of numbers, separated by commas."""

    def parse(context: click.Context, parameter: click.Parameter, text: Any) -> Sequence[float]:
        try:
            return tuple(kind(part) for part in text.split(","))
        except ValueError:
            raise click.BadParameter(f"must be {EXAMPLES[kind]}; got {text!r}", context, parameter) from None

    return parse


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
@field_option(CalibrateOptions, "sides", callback=_listed(int), default="64,128,256", metavar="N,N")
@field_option(CalibrateOptions, "temperatures", callback=_listed(float), default="0,0.5,0.7,0.8,0.9,1", metavar="τ,τ")
@field_option(CalibrateOptions, "seed")
@field_option(CalibrateOptions, "force")
@running_options
@workers_option
@max_pixels_option
def command(data: Path, max_pixels: int, **given: Any) -> None:
    """Learn from photographs which likelihoods are typical, and write them into BUNDLE.

    True images and samples are learned separately, coloured and grey, by size and complexity. The command also measures
    how well the spread of the samples covers the true images. A reliable calibration takes some hundred photographs.

    The same command resumes after a stop. Until the end, BUNDLE/calibration.work contains the measures of the
    photographs that are finished.
    """
    console = command_console()
    execution, options = gathered(ExecutionOptions, given), gathered(CalibrateOptions, given)
    check_free(find_bundle(execution.bundle), options.force)
    pipe = execution.open_pipeline(is_calibrated=False)
    if not holds_pairs(data):
        warn_of_results([data], console.warning)
    with execution.open_executor(pipe, is_calibrated=False) as executor, console.progress_bar() as bar:
        progress = _Progress(console, bar)
        try:
            settings = settings_for(pipe, options, max_pixels)
            found = calibrate_pipeline(pipe, executor, data, settings, options.force, progress)
        except KeyboardInterrupt as stop:
            raise CommandError(f"stopped: {progress.left}", exit_code(stop)) from None
        except (CaflowError, OSError) as error:
            if not progress.count:  # nothing has been measured
                raise
            raise CommandError(f"{format_error(error)}: {progress.left}", FAILED) from None
    _print_calibration(pipe, found, console)


class _Progress(CalibrationProgress):
    """Bars, or lines from time to time."""

    def __init__(self, console: CommandConsole, bar: Progress) -> None:
        self.console, self.bar, self.done, self.count = console, bar, 0, 0
        self.pace = ProgressReporter(console.message if bar.disable else None)
        self._before: int | None = None

    @property
    def left(self) -> str:
        """What is done and how it is resumed."""
        return resuming(self.done, self.count, "photograph")

    def reading(self, photographs: Sequence[Photograph]) -> Iterable[Photograph]:
        return self.bar.track(photographs, description="reading photographs")

    def skipped(self, why: str) -> None:
        self.console.warning(f"skipped: {why}")

    def measured(self, done: int, count: int) -> None:
        self.done, self.count = done, count
        if self._before is None:
            self._before = done
            self._task = self.bar.add_task("photographs", total=count, completed=done)
            return
        self.bar.update(self._task, completed=done)
        self.pace.tell((done - self._before) / (count - self._before), f"{done} of {count} photographs")


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
