"""`caflow calibrate`: what is typical, written into a bundle."""

import os
from collections.abc import Iterator
from pathlib import Path

import click

from caflow_deploy.commands.options import bundle_argument, max_pixels_option, numbers, open_pipeline, running_options
from caflow_deploy.commands.terminal import ending_on_errors, print_table, progress_bar
from caflow_runtime.bundle.builtin import find_bundle
from caflow_runtime.errors import InputError, UnreadableImage
from caflow_runtime.jobs.calibrate import calibrate
from caflow_runtime.jobs.photographs import Pair, pairs_of, photographs_in, with_grey_copies
from caflow_runtime.judge import calibration
from caflow_runtime.judge.calibration import WrongCalibration, read_calibration
from caflow_runtime.judge.coverage import Coverage
from caflow_runtime.judge.reference import Reference
from caflow_runtime.pipeline.pipeline import Pipeline

ENOUGH = 100
"""Photographs: a share of 0.05 is then known to ±0.04."""
SIDES, TEMPERATURES = "64,128,256", "0,0.5,0.7,0.8,0.9,1"


def temperatures_of(context: click.Context, parameter: click.Parameter, text: str) -> list[float]:
    """The callback of --temperatures."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [-1.0]
    if not all(0 <= value < float("inf") for value in found) or len(set(found)) < len(found):
        raise click.BadParameter(f"wanted different numbers such as 0.8,1, got {text!r}", context, parameter)
    return sorted(found)


@click.command("calibrate")
@bundle_argument
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Folder of photographs that the model was not trained on; or of the subfolders A (conditions) and B "
    "(targets), whose files have the same names. Pairs in one folder below these count as one photograph.",
)
@click.option("--sides", default=SIDES, callback=numbers, show_default=True, help="Of crops, in pixels of targets.")
@click.option(
    "--temperatures",
    default=TEMPERATURES,
    callback=temperatures_of,
    show_default=True,
    help="Of samples: those that will be used.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--force", is_flag=True, help="Replace a calibration that is there already.")
@running_options
@max_pixels_option
def command(
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
    """Learn from photographs what is typical, and write that into BUNDLE, x4-photo by default: of true images and of
    samples, coloured and grey, by size and complexity; and how well the spread of samples covers the truth.

    Some hundred photographs make it dependable.
    """
    with ending_on_errors():
        _check_free(find_bundle(bundle), force)
    # The old calibration may be of another bundle, or damaged. It stays in its place until there is a new one.
    pipe = open_pipeline(bundle, backend, threads, pixel_budget, overlap, is_calibrated=False)
    with ending_on_errors():
        if not os.access(pipe.folder, os.W_OK):
            raise InputError(f"{pipe.folder} cannot be written to: calibrate a copy of it")
        pairs = with_grey_copies(pipe.manifest.model, _pairs(pipe, data, sides, max_pixels))
        found = calibrate(pipe, pairs, temperatures, seed)
        calibration.write_calibration(pipe.folder, found)
    rows = []
    for reference in (found.truth, *found.samples):
        name = "true images" if reference.temperature is None else f"samples, τ = {reference.temperature:g}"
        bits = reference.main.bits_per_dim
        low, middle, high = (bits[k * (len(bits) - 1) // 20] for k in (1, 10, 19))
        rows.append([name, f"{low:.3f}", f"{middle:.3f}", f"{high:.3f}"])
    print_table(["bits/dim of", "5 %", "median", "95 %"], rows)
    _print_groups(found.truth)
    _print_coverage(found.coverage)
    click.echo(f"{pipe.folder}: calibrated with {found.truth.images} crops of {found.photographs} photographs")
    if found.photographs < ENOUGH:
        click.echo(f"caflow: of fewer than {ENOUGH} photographs: the shares that are rejected will be rough", err=True)


def _print_groups(truth: Reference) -> None:
    """Those that an image can be judged in."""
    kinds = (("coloured", truth.coloured), ("grey", truth.grey))
    rows = [
        [", ".join(part for part in (word, group.name) if part), str(group.images), f"{1 / (group.images + 1):.2g}"]
        for word, kind in kinds
        if kind
        for group in kind.groups
    ]
    print_table(["groups of images", "crops", "smallest typicality"], rows)


def _print_coverage(coverage: list[Coverage]) -> None:
    """How often the true image lies between the lowest and the highest sample."""
    rows = [
        [f"level {one.level}, {one.quantity}s of blocks", f"{one.inside:.0%}", f"{one.expected:.0%}"]
        for one in coverage
    ]
    first = coverage[0]
    title = f"true images among {len(first.counts) - 1} samples, τ = {first.temperature:g}"
    print_table([title, "inside", "wanted"], rows)


def _check_free(folder: Path, force: bool) -> None:
    """Refuse to replace a calibration that can be used, unless `force`: by default it is the built-in model's own."""

    try:
        found = read_calibration(folder)
    except WrongCalibration:
        return
    if found is not None and not force:
        raise InputError(f"{folder} is calibrated already: give --force to replace that, or calibrate a copy of it")


def _pairs(pipe: Pipeline, data: Path, sides: list[int], max_pixels: int) -> Iterator[Pair]:
    """Of all photographs that can be read and are large enough; the others are named."""

    paths = photographs_in(data)
    with progress_bar() as progress:
        task = progress.add_task("photographs", total=len(paths))
        for path in paths:
            try:
                found = pairs_of(path, data, pipe.manifest.model, sides, max_pixels)
            except UnreadableImage as error:
                click.echo(f"caflow: left out: {error}", err=True)
            else:
                if not found:
                    click.echo(f"caflow: left out: {path}: smaller than {min(sides)}×{min(sides)} pixels", err=True)
                yield from found
            progress.advance(task)
