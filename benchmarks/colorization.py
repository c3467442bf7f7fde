"""How well a model of the task `color-hints` colours grey photographs, with and without dots of colour as hints.

The photographs are made grey: a method sees their luma, and dots of their true colours. The dots lie at random places,
or where `suggest_hints` says. The model draws one sample at its own temperature. The peer is the propagation of the
dots alone, by Levin's method at full resolution; without dots it leaves the photograph grey.

"ab" is the root of the mean squared error of a and b in CIELAB. Colourfulness is relative to that of the true
photographs.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import report
import torch
from metrics import (
    WHOLE,
    Judge,
    Picture,
    ab,
    colorfulness,
    folder_of,
    further_photographs,
    read,
    relative_difference,
)
from numpy.typing import NDArray
from PIL import Image

from caflow_runtime.completion.color_hints import Point, draw_hints, propagate
from caflow_runtime.completion.color_space import recolored, rgb_to_ycbcr
from caflow_runtime.completion.hint_suggestions import suggest_hints
from caflow_runtime.pipeline.pipeline import Pipeline, load

COUNT = 38
DOTS = (0, 5, 10, 30)
RADIUS = 4
"""Radius of the dots, in pixels."""
APART = 3 * RADIUS
"""Least distance of random dots, in pixels."""
COMPARED = ("ab", "lpips")
"""Figures whose differences are measured, photograph by photograph."""
STEP = 4
"""Sides of the photographs are multiples of this number of pixels."""

Color = Callable[[Picture, Sequence[Point], int], Picture]
"""Colours a grey picture with dots as hints. The number is the seed of what is drawn at random."""


def photographs(count: int) -> list[Picture]:
    """Return the first photographs of `test`, and of `last` and `unseen` at half their size, with a short side of 256.

    These are those of `inpainting.py`, whole.
    """
    test = (read(path) for path in sorted((folder_of("test")).iterdir()))
    further = (half for _, half in further_photographs())
    return [with_short_side(picture) for picture in islice(chain(test, further), count)]


def with_short_side(picture: Image.Image) -> Picture:
    """Return a picture with a short side of 256 pixels."""
    width, height = (STEP * round(WHOLE / STEP * side / min(picture.size)) for side in picture.size)
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))


def grey(picture: Picture) -> Picture:
    """Return the luma of a picture in three channels."""
    return np.repeat(rgb_to_ycbcr(picture)[..., :1], 3, 2)


def middle(picture: NDArray[Any], dot: tuple[int, int]) -> NDArray[Any]:
    """Return the mean of the 3×3 pixels around the column and row of a dot, for each channel."""
    x, y = dot
    return np.asarray(picture[y - 1 : y + 2, x - 1 : x + 2].mean((0, 1)))


def true_dot(picture: Picture, place: tuple[int, int]) -> Point:
    """Return a dot with the colour that a picture has in its middle."""
    red, green, blue = np.rint(middle(picture, place)).astype(int).tolist()
    return Point(*place, (red, green, blue))


def random_dots(picture: Picture, count: int, seed: int) -> list[Point]:
    """Return dots of true colour at random places that are not too close to each other. The first ones are random."""
    rng, places = np.random.default_rng(seed), list[tuple[int, int]]()
    while len(places) < count:
        x, y = (int(rng.integers(RADIUS, extent - RADIUS)) for extent in picture.shape[1::-1])
        if all((x - a) ** 2 + (y - b) ** 2 >= APART**2 for a, b in places):
            places.append((x, y))
    return [true_dot(picture, place) for place in places]


def suggested_dots(picture: Picture, count: int) -> list[Point]:
    """Return dots of true colour at the places that are suggested, the best ones first."""
    return [true_dot(picture, place) for place in suggest_hints(grey(picture), count)]


def hints_of(picture: Picture, dots: Sequence[Point]) -> NDArray[np.uint8]:
    """Return the picture of hints, (H, W, 4) uint8 RGBA."""
    height, width = picture.shape[:2]
    return draw_hints(height, width, dots, RADIUS)


def levin(picture: Picture, dots: Sequence[Point], _: int = 0) -> Picture:
    """Colour a grey picture by the propagation of the dots at full resolution."""
    hints = hints_of(picture, dots)
    chroma = rgb_to_ycbcr(np.ascontiguousarray(hints[..., :3]))[..., 1:]
    return np.asarray(recolored(picture, propagate(picture[..., 0], chroma, hints[..., 3] > 0)), np.uint8)


def by_model(pipe: Pipeline) -> Color:
    """Return the method that colours a grey picture with a sample of a model."""

    def color(picture: Picture, dots: Sequence[Point], seed: int) -> Picture:
        condition = pipe.prepare(picture, hints=hints_of(picture, dots))
        return pipe.finish(picture, pipe.best_of(condition, n=1, seed=seed).images[0])

    return color


def measured(color: Color, given: Sequence[tuple[Picture, Sequence[Point]]], judge: Judge) -> report.Row:
    """Return the figures of one method for photographs and their dots, with those of each that are compared."""
    each: dict[str, list[float]] = {name: [] for name in ("ab", "lpips", "colourfulness", "true", "seconds")}
    for seed, (picture, dots) in enumerate(given):
        image = grey(picture)
        started = time.perf_counter()
        result = color(image, dots, seed)
        each["seconds"].append(time.perf_counter() - started)
        found, true = ab(result), ab(picture)
        each["ab"].append(float(np.sqrt(np.square(found - true).mean())))
        each["lpips"] += judge.lpips([result], [picture])
        each["colourfulness"].append(colorfulness(result))
        each["true"].append(colorfulness(picture))
    means = {name: float(np.mean(values)) for name, values in each.items()}
    relative = means["colourfulness"] / means.pop("true")
    further = {"colourfulness": relative, "seconds": statistics.median(each["seconds"])}
    compared = {f"{metric} of each": each[metric] for metric in COMPARED}
    return {**means, **further, **compared}


def against(name: str, row: report.Row, other: report.Row) -> report.Row:
    """Return the relative differences of a row from another one, in per cent, with the half widths of intervals."""
    found: report.Row = {}
    for metric in COMPARED:
        difference = relative_difference(row[f"{metric} of each"], other[f"{metric} of each"])
        found |= dict(zip((f"{metric} − {name}, %", f"{metric} − {name} ±, %"), difference, strict=True))
    return found


def rows_of(pipe: Pipeline, pictures: Sequence[Picture], judge: Judge) -> Iterator[report.Row]:
    """Yield a row for each place and number of dots, of the peer and of the model."""
    of_grey = measured(levin, [(picture, []) for picture in pictures], judge)
    at_random: dict[int, report.Row] = {}
    for where, counts in (("random", DOTS), ("suggested", DOTS[1:])):
        dots = [
            random_dots(picture, max(counts), seed) if where == "random" else suggested_dots(picture, max(counts))
            for seed, picture in enumerate(pictures)
        ]
        for count in counts:
            given = [(picture, few[:count]) for picture, few in zip(pictures, dots, strict=True)]
            peer = measured(levin, given, judge) if count else of_grey
            ours = measured(by_model(pipe), given, judge)
            at_random.setdefault(count, ours)
            ours |= against("peer", ours, peer)
            ours["ab < grey's"] = float(np.mean(np.less(ours["ab of each"], of_grey["ab of each"])))
            if where == "suggested":
                ours |= against("random", ours, at_random[count])
            for method, row in (("levin" if count else "grey", peer), ("model", ours)):
                shown = {key: value for key, value in row.items() if not key.endswith("of each")}
                yield {"dots": count, "where": where, "method": method, **shown}


@click.command("colorization")
@report.BUNDLE
@click.option("--photographs", "count", default=COUNT, show_default=True, help="Number of photographs, two or more.")
@report.options
def judge_colorization(bundle: Path, count: int, threads: int, json_file: Path | None) -> None:
    """Colour photographs with BUNDLE, a model of the task color-hints, and with Levin's method.

    The columns "−" are the relative difference of the mean from that of the peer with the same dots, or of the model
    with as many random dots, with the half width of its 95 % interval.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    judge, rows = Judge(), list[report.Row]()
    with load(bundle, "cpu", threads) as pipe:
        for row in rows_of(pipe, photographs(count), judge):
            rows.append(row)
            report.write(json_file, rows, threads=threads, photographs=count)
    report.show(rows)
