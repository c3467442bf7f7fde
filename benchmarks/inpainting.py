"""How well a model of the task `masked-inpainting` fills holes, compared with its first fillings and with peers.

The holes are scratches, boxes and strokes as in training, in 256×256 crops of photographs that no training uses. The
model fills each hole twice, around a first filling by PyPatchMatch and around a smooth one, with one sample at its own
temperature. Results keep the pixels outside the hole. Peers run if they are installed; `benchmarks/README.md` says how
to install them.

LPIPS is of the whole crop, and PSNR of the pixels in the hole. PSNR leaves out holes in even areas, where every method
is right but for rounding.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import get_args

import click
import cv2
import numpy as np
import report
import torch
from metrics import WHOLE, Judge, Picture, held_out_crops, psnr, relative_difference

from caflow_runtime.completion.filling import Hole, fill_smoothly, fill_with_patches, has_patches
from caflow_runtime.pipeline.pipeline import Pipeline, load
from caflow_training.completion_tasks import MaskedInpainting
from caflow_training.holes import HoleKind, draw_hole

Fill = Callable[[Picture, Hole], Picture]
"""Fills a hole in a picture. Pixels in the hole do not matter."""

CROPS = 40
MIN_DEVIATION = 2.0
"""Standard deviation of the true pixels in a hole, in grey levels, below which the hole counts as even."""
RADIUS = 3
"""Radius of the patches of a single search, in pixels."""
SMOOTH, PATCHES = "navier-stokes, smooth first filling", "patchmatch"
OURS = {"model": "patches", "model, smooth first filling": "smooth"}
"""Methods of the model, and their names in the columns that count its wins."""


def patch_match(picture: Picture, hole: Hole) -> Picture:
    """Fill a hole by one search of PyPatchMatch."""
    return fill_with_patches(picture, hole, radii=(RADIUS,))


def by_model(pipe: Pipeline, first: Fill) -> Fill:
    """Return the method that fills a hole with a sample of a model, around a first filling."""

    def fill(picture: Picture, hole: Hole) -> Picture:
        condition = np.dstack([first(picture, hole), np.where(hole, np.uint8(0), np.uint8(255))])
        return np.asarray(pipe.best_of(condition, n=1).images[0])

    return fill


def methods(pipe: Pipeline) -> dict[str, Fill]:
    """Return all methods that can run here, by name. Print a line for each peer that cannot run."""
    found: dict[str, Fill] = {SMOOTH: fill_smoothly}
    with_patches: Mapping[str, Fill] = {
        PATCHES: patch_match,
        "patchmatch, first filling": fill_with_patches,
        "model": by_model(pipe, fill_with_patches),
    }
    if has_patches():
        found |= with_patches
    else:
        print(f"{', '.join(with_patches)} are skipped: PyPatchMatch is not installed")
    return found | {"model, smooth first filling": by_model(pipe, fill_smoothly)}


def holes(kind: HoleKind, count: int) -> list[Hole]:
    """Return one hole for each crop. Each depends on its kind and number alone."""
    kinds, area = get_args(HoleKind), MaskedInpainting().hole_area
    generators = [np.random.default_rng((kinds.index(kind), k)) for k in range(count)]
    return [draw_hole(kind, WHOLE, WHOLE, rng.uniform(*area), rng) for rng in generators]


def hole_psnr(result: Picture, target: Picture, hole: Hole) -> float | None:
    """Return PSNR of the pixels in a hole, in dB; None if the true pixels are even."""
    is_even = target[hole].std(0).max() < MIN_DEVIATION
    return None if is_even else psnr(result[hole], target[hole])


def measured(name: str, fill: Fill, given: Sequence[tuple[Picture, Hole]], judge: Judge) -> report.Row:
    """Return the figures of one method for crops and their holes, with LPIPS of each crop."""
    results, seconds = list[Picture](), list[float]()
    for picture, hole in given:
        blank = np.where(hole[..., None], np.uint8(0), picture)
        started = time.perf_counter()
        filled = fill(blank, hole)
        seconds.append(time.perf_counter() - started)
        results.append(np.where(hole[..., None], filled, picture))
    lpips = judge.lpips(results, [picture for picture, _ in given])
    psnrs = [hole_psnr(result, *pair) for result, pair in zip(results, given, strict=True)]
    uneven = [value for value in psnrs if value is not None]
    return {
        "method": name,
        "lpips": float(np.mean(lpips)),
        "hole psnr": float(np.mean(uneven)) if uneven else None,
        "uneven holes": len(uneven),
        "seconds": statistics.median(seconds),
        "lpips of each": lpips,
    }


def compared(rows: list[report.Row]) -> list[report.Row]:
    """Return the rows of all methods with their differences from the references, and how often the model wins."""
    each = {row["method"]: row.pop("lpips of each") for row in rows}
    for row in rows:
        values = each[row["method"]]
        for reference, short in ((PATCHES, "patchmatch"), (SMOOTH, "navier-stokes")):
            if reference in each:
                difference = relative_difference(values, each[reference])
                row |= dict(zip((f"− {short}, %", f"− {short} ±, %"), difference, strict=True))
        for method, short in OURS.items():
            if method in each:
                row[f"wins, {short}"] = float(np.mean(np.less(each[method], values)))
    return rows


@click.command("inpainting")
@report.BUNDLE
@click.option("--kind", "kinds", type=click.Choice(get_args(HoleKind)), multiple=True, default=get_args(HoleKind))
@click.option("--photographs", default=CROPS, show_default=True, help="Number of photographs, two or more.")
@report.options
def judge_inpainting(
    bundle: Path, kinds: tuple[HoleKind, ...], photographs: int, threads: int, json_file: Path | None
) -> None:
    """Fill holes with BUNDLE, a model of the task masked-inpainting, and with its peers.

    The columns "−" are the relative difference of mean LPIPS from that of a peer, with the half width of its 95 %
    interval. "wins" is the share of crops in which the model, around a first filling, has a lower LPIPS than the row.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    judge, rows = Judge(), list[report.Row]()
    pictures = [crop.target for crop in held_out_crops()[:photographs]]
    with load(bundle, "cpu", threads) as pipe:
        for kind in kinds:
            given = list(zip(pictures, holes(kind, len(pictures)), strict=True))
            found = compared([measured(name, fill, given, judge) for name, fill in methods(pipe).items()])
            report.show(found)
            rows += [{"hole": kind, **row} for row in found]
            report.write(json_file, rows, threads=threads, photographs=photographs)
