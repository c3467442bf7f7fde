"""`caflow filter`: judge whether each pair of a list is typical, and write one verdict per pair."""

import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import click
import msgspec

from caflow_cli.command_error import FAILED, CommandError
from caflow_cli.console import CommandConsole, command_console, counted, resuming
from caflow_cli.field_options import gathered
from caflow_cli.option_values import FilePath, NumberRange
from caflow_cli.stops import exit_code
from caflow_deploy.commands.execution_options import ExecutionOptions, workers_options
from caflow_deploy.commands.pipeline_options import bundle_option, json_option, max_pixels_option, running_options
from caflow_deploy.filtering.accepted_targets import Accepted, check_fits_in_a_line, common_folder
from caflow_deploy.filtering.verdict_folder import SCORES, FilterJob, FilterSettings, check_apart, hash_of
from caflow_deploy.filtering.verdicts import judge, smallest_typicality, verdicts_of
from caflow_deploy.images.pairs import FilePair, list_pairs
from caflow_deploy.jobs.executor import Executor, SerialExecutor
from caflow_deploy.jobs.folder import exclusive_lock
from caflow_runtime.bundle.builtin import DEFAULT
from caflow_runtime.errors import CaflowError, format_error
from caflow_runtime.ood.drift import MIN_VALUES, SMALL_P, Drift
from caflow_runtime.ood.verdict import Verdict
from caflow_runtime.pipeline.pipeline import Pipeline

SHOWN_REJECTIONS = 5
"""Largest number of rejected pairs that are printed with their reasons."""

alpha_option = click.option(
    "--min-typicality",
    type=NumberRange(0, 1, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
    help="Reject pairs whose typicality is below this threshold α. About a fraction α of good pairs is rejected by "
    "mistake.",
)
accepted_option = click.option(
    "--accepted",
    type=click.Choice(["list", "copy"]),
    default="list",
    show_default=True,
    help="Form of the accepted targets. list: their paths in DIR/accepted.txt, one per line. copy: copies of the files "
    "in DIR/accepted.",
)


@dataclass(frozen=True)
class FilterOptions:
    """Values of the options of the command."""

    execution: ExecutionOptions
    min_typicality: float
    accepted: Accepted
    force: bool
    max_pixels: int


@click.command("filter")
@click.argument("source", metavar="PAIRS", type=FilePath(path_type=Path))
@click.option(
    "-o", "--output", metavar="DIR", type=FilePath(path_type=Path), required=True, help="Folder for the results."
)
@bundle_option
@alpha_option
@accepted_option
@click.option("--force", is_flag=True, help="Start again, and overwrite existing results.")
@running_options
@workers_options
@max_pixels_option
@json_option
def command(source: Path, output: Path, **given: Any) -> None:
    """Judge whether the pairs of a target and a condition in PAIRS are typical. Requires a calibrated bundle.

    PAIRS is a .csv file with the columns target and condition, a .jsonl file with these fields, or a folder with the
    subfolders A (conditions) and B (targets).

    DIR/scores.jsonl gets a line for each pair, with its verdict, its typicality and its likelihood, in total and for
    each level. The same command resumes after a stop. A pair that fails is reported, and the others are still judged;
    the exit code is then 1, and the same command judges the pair again. All images count with 8 bits per channel, and
    without transparency.
    """
    console, options = command_console(), gathered(FilterOptions, given)
    execution, min_typicality = options.execution, options.min_typicality
    if execution.ray is not None:  # workers on a cluster have other working directories, so make paths absolute
        source, output = source.absolute(), output.absolute()
    pairs = list_pairs(source)
    pipe = execution.open_pipeline()
    warn_of_small(min_typicality, pipe, console)
    check_job(source, output, pairs, options.accepted)
    with exclusive_lock(output), execution.open_executor(pipe) as executor:
        pipeline = execution.settings(pipe, executor)
        settings = FilterSettings(pipeline, min_typicality, options.max_pixels, hash_of(pairs))
        job = FilterJob(output, pairs, settings, options.force)
        judging = partial(_verdicts, executor, job.left, min_typicality, options.max_pixels)
        is_new = run_job(job, judging, options.accepted, console)
    next_command = report_command(job, execution.bundle)
    report_job(job, min_typicality, pipe.calibration.photographs, next_command, is_new, console)


def _verdicts(
    executor: Executor,
    batches: Sequence[Sequence[FilePair]],
    min_typicality: float,
    max_pixels: int,
    progress: Callable[[int], object],
) -> Iterator[list[Verdict]]:
    """Yield the verdicts of each batch.

    Arguments:
        progress: called with the number of pairs of the current batch that are judged, if this process judges them.

    Raises:
        WorkerLost: if every worker that tried some pairs died.
    """
    if not isinstance(executor, SerialExecutor):
        function = partial(judge, min_typicality=min_typicality, max_pixels=max_pixels)
        yield from executor.results(function, batches, lambda batch: batch[0].target, in_order=True)
        return
    pairs = chain.from_iterable(batches)
    found = verdicts_of(executor.pipe, pairs, min_typicality, max_pixels)  # reads the next batch ahead
    for batch in batches:
        verdicts = []
        for verdict in islice(found, len(batch)):
            verdicts.append(verdict)
            progress(len(verdicts))
        yield verdicts


def warn_of_small(min_typicality: float, pipe: Pipeline, console: CommandConsole) -> None:
    """Warn if α is so small that no pair can be rejected in the smallest group of the calibration.

    Raises:
        InputError: if the bundle is not calibrated.
    """
    if (smallest := smallest_typicality(pipe)) >= min_typicality:
        console.warning(
            f"α ≤ {smallest:.3g} cannot reject pairs of every size and complexity, because the smallest group of the "
            "calibration has too few images; give a larger --min-typicality, or calibrate with more photographs"
        )


def check_job(source: Path, output: Path, pairs: list[FilePair], accepted: Accepted) -> None:
    """Check everything that can fail at the end of the job before anything is computed.

    Raises:
        InputError: if the accepted targets cannot be listed or copied.
    """
    if accepted == "list":
        for pair in pairs:
            check_fits_in_a_line(pair.target)
    else:
        common_folder(pairs)
    check_apart(output, [str(source)])


def run_job(
    job: FilterJob,
    judging: Callable[[Callable[[int], object]], Iterable[Sequence[Verdict]]],
    accepted: Accepted,
    console: CommandConsole,
) -> bool:
    """Write the missing verdicts of a job and report each pair. Return False if the job was complete already.

    Arguments:
        judging: returns the verdicts of each batch that is left. Its argument is called with the number of verdicts of
            the current batch.
    """
    count = len(job.pairs)
    is_new = job.done < count
    try:
        with console.progress_bar() as bar:
            task = bar.add_task("pairs", total=count, completed=job.done)
            verdicts = judging(lambda judged: bar.update(task, completed=job.done + judged))
            for verdict in job.run(verdicts):
                if verdict.verdict == "error":
                    console.error(str(verdict.reason))
                if console.as_json:
                    console.result(msgspec.json.encode(verdict).decode())
                bar.update(task, completed=job.done)
        return job.finish(accepted) or is_new
    except KeyboardInterrupt as stop:
        raise CommandError(f"stopped: {resuming(job.done, count, 'pair')}", exit_code(stop)) from None
    except (CaflowError, OSError) as error:  # verdicts that are written are kept
        raise CommandError(f"{format_error(error)}: {resuming(job.done, count, 'pair')}", FAILED) from None


def report_command(job: FilterJob, bundle: Path) -> str:
    """Return the command that writes a report about a job, for a shell."""
    given = [] if str(bundle) == DEFAULT else ["--model", str(bundle)]
    return shlex.join(["caflow", "report", str(job.folder / SCORES), *given])


def report_job(
    job: FilterJob, min_typicality: float, photographs: int, next_command: str, is_new: bool, console: CommandConsole
) -> None:
    """Report the outcome of all pairs.

    Arguments:
        photographs: number of photographs of the calibration.
        next_command: command that shows more.
        is_new: False if the job was complete already.

    Raises:
        CommandError: if some pairs failed.
    """
    counts, drift, rejected = Counter[str](), Drift(photographs), list[Verdict]()
    for verdict in job.verdicts():
        counts[verdict.verdict] += 1
        if verdict.verdict == "rejected" and len(rejected) < SHOWN_REJECTIONS:
            rejected.append(verdict)
        drift.add(math.nan if verdict.image_typicality is None else verdict.image_typicality)
    share = counts["rejected"] / drift.count if drift.count else 0.0
    if not is_new:
        console.summary(f"{job.folder} is already complete")
    if not console.as_json:
        unjudged = f"{counts['unjudged']} unjudged, " if counts["unjudged"] else ""
        console.result(
            f"by image typicality: {counts['accepted']} accepted, {counts['rejected']} rejected ({share:.1%}; usual "
            f"for real photographs: {min_typicality:.1%}), {unjudged}{counts['error']} errors → {job.folder}"
        )
        for verdict in rejected:
            console.result(f"rejected: {verdict.target}: {verdict.reason}")
        if counts["rejected"] > len(rejected):
            console.result(f"… and {counts['rejected'] - len(rejected)} more in {job.folder / SCORES}")
    if drift.count >= MIN_VALUES:
        like = "unlike" if drift.p_value < SMALL_P else "like"
        console.summary(
            f"as a whole, the pairs are {like} real photographs: p = {drift.p_value:.2g} (valid if each is of "
            "another photograph)"
        )
    if not console.as_json:
        console.result(f"for a page with the images, run {next_command}")
    if counts["error"]:
        raise CommandError(f"{counts['error']} of {counted(len(job.pairs), 'pair')} failed", FAILED)
