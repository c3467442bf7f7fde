"""`caflow calibrate`: learn from photographs what is typical, and write it into a bundle."""

import os
from collections.abc import Iterator
from pathlib import Path

import click

from caflow_deploy.commands.jobs import warn_of_results
from caflow_deploy.commands.option_values import FilePath, numbers
from caflow_deploy.commands.pace import Pace
from caflow_deploy.commands.pipeline_options import bundle_argument, max_pixels_option, open_pipeline, running_options
from caflow_deploy.console import CommandConsole, pass_console
from caflow_runtime.bundle.builtin import find_bundle
from caflow_runtime.errors import InputError, UnreadableImage
from caflow_runtime.jobs.calibrate import calibrate
from caflow_runtime.jobs.pairs import holds_pairs
from caflow_runtime.jobs.photographs import Pair, pairs_of, photographs_in, with_grey_copies
from caflow_runtime.judge import calibration
from caflow_runtime.judge.calibration import WrongCalibration, read_calibration
from caflow_runtime.judge.coverage import Coverage
from caflow_runtime.judge.reference import Reference
from caflow_runtime.pipeline.pipeline import Pipeline

ENOUGH = 100
"""Number of photographs below which a warning is printed. With 100, a fraction of 0.05 is known to ±0.04."""
LEAST_MULTIPLES = 2
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
    "B (targets), paired as caflow filter pairs them; all pairs in one folder below A and B count as one photograph.",
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
@max_pixels_option
@pass_console
def command(
    console: CommandConsole,
    bundle: Path,
    data: Path,
    sides: list[int],
    temperatures: list[float],
    seed: int,
    force: bool,
    backend: str,
    threads: int,
    pixel_budget: int | None,
    overlap: int | None,
    max_pixels: int,
) -> None:
    """Learn from photographs which likelihoods are typical, and write them into BUNDLE.

    True images and samples are learned separately, coloured and grey, by size and complexity. The command also measures
    how well the spread of the samples covers the true images. A reliable calibration takes some hundred photographs.
    """
    _check_free(find_bundle(bundle), force)
    # An existing calibration may be damaged or belong to another bundle, so do not read it. It is replaced at the end.
    pipe = open_pipeline(bundle, backend, threads, pixel_budget, overlap, is_calibrated=False)
    if not os.access(pipe.folder, os.W_OK):
        raise InputError(f"{pipe.folder} is not writable; calibrate a copy of it")
    pairs = with_grey_copies(pipe.manifest.model, _pairs(pipe, data, sides, max_pixels, console))
    found = calibrate(pipe, pairs, temperatures, seed)
    calibration.write_calibration(pipe.folder, found)
    rows = []
    for reference in (found.truth, *found.samples):
        name = "true images" if reference.temperature is None else f"samples, τ = {reference.temperature:g}"
        bits = reference.main.bits_per_dim
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


def _print_groups(truth: Reference, console: CommandConsole) -> None:
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
    """Refuse to overwrite a valid calibration without `force`: without BUNDLE it would be the built-in model's own."""
    try:
        found = read_calibration(folder)
    except WrongCalibration:
        return
    if found is not None and not force:
        raise InputError(
            f"{folder} is calibrated already; calibrate a copy of it, or give --force to overwrite the calibration"
        )


def _pairs(pipe: Pipeline, data: Path, sides: list[int], max_pixels: int, console: CommandConsole) -> Iterator[Pair]:
    """Yield the pairs of all photographs that are readable and large enough. Report the others.

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
    smallest = LEAST_MULTIPLES * pipe.manifest.model.size_multiple
    if min(sides) < smallest and any(photograph.condition is None for photograph in photographs):
        raise InputError(f"--sides must be at least {smallest} pixels for this model; got {min(sides)}")
    with console.progress_bar() as bar:
        task = bar.add_task("photographs", total=len(photographs))
        pace = Pace(console.message if bar.disable else None)
        for number, photograph in enumerate(photographs, 1):
            try:
                found = pairs_of(photograph, pipe.manifest.model, sides, max_pixels)
            except UnreadableImage as error:
                console.warning(f"skipped: {error}")
            else:
                if not found:
                    what = f"{photograph.path}: smaller than {min(sides)}×{min(sides)} pixels"
                    console.warning(f"skipped: {what}")
                yield from found
            bar.advance(task)
            pace.tell(number / len(photographs), f"{number} of {len(photographs)} photographs")
