"""A video restored: the start of five clips, every frame reduced to a quarter, by a ×4 bundle and by its peers.

Flicker is what changes over time and should not, or should and does not: of a result r of the truth w the mean of
|(r[t] − r[t−1]) − (w[t] − w[t−1])| over pixels, channels and frames, in grey levels. Static and moving parts are told
apart by the truth alone: a pixel moves between two frames where the change of grey, averaged over the 5×5 pixels around
it, exceeds 4 levels. Pairs of frames across a scene cut do not count.

“change” is the mean of |r[t] − r[t−1]| in static parts: what an eye sees there; that of the truth is noise of the
camera and of its coding. LPIPS is of every fourth frame. Only restoring is timed, not what measures it.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import report
import torch
from metrics import SCALE, Judge, Picture, psnr, reduce
from numpy.typing import NDArray
from peers import Upscale, installed
from quality import PHOTOGRAPHS
from tiles import borders, seam

from caflow_runtime.pipeline import Pipeline, load
from caflow_runtime.stream import SceneCuts
from caflow_runtime.tiles import cut
from caflow_runtime.video.source import FileSource

FRAMES, SRMDNF_FRAMES, DAT_FRAMES = 60, 10, 5
LPIPS_EVERY = 4
MOVING, AROUND = 4.0, (5, 5)
WARM_UP = 16
SETTINGS: dict[str, dict[str, Any]] = {
    "τ = 0": {"temperature": 0.0},
    "fixed": {"noise": "fixed"},
    "fixed, best of 10": {"noise": "fixed", "n": 10},
    "ar1:0.9": {"noise": 0.9},
    "fresh": {"noise": "fresh"},
}
"""Of `Pipeline.stream`; τ is 0.8 where nothing else is said, and n is 1."""
TILED, TILE, OVERLAPS, TILED_FRAMES, NEAR = "cockatoo", 256, (0, 64), 8, 4
SLICED, SLICE_ROW, SLICE_COLUMNS = "cityCC0", 140, slice(270, 630)
SHOWN, MAGNIFIED = ("truth", "bicubic", "fixed", "fresh"), 2
PACKAGES = ("onnxruntime", "lpips", "pillow", "av", "numpy")

Result = tuple[Picture, float | None]
"""A restored frame, and its bits per dimension where it has a likelihood."""
Measures = dict[str, float]
"""Of a frame, or a mean over frames."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Clip:
    """The start of a clip, and its frames reduced."""

    name: str
    truth: list[Picture]
    conditions: list[Picture]
    moving: list[NDArray[np.bool_] | None]
    """Of each frame, what moved since the one before; None for the first of a scene."""


@dataclass(frozen=True)
class Method:
    """How frames are restored."""

    name: str
    restore: Callable[[list[Picture]], Iterator[Result]]
    frames: int
    """So many of each clip, at most."""


def read(path: Path, frames: int) -> Clip:
    """A clip, cropped at the right and at the bottom to multiples of the scale."""
    whole = [timed.image for timed in islice(FileSource(path).frames(), frames)]
    height, width = (side // SCALE * SCALE for side in whole[0].shape[:2])
    truth = [np.ascontiguousarray(image[:height, :width]) for image in whole]
    is_cut = SceneCuts()
    starts = [is_cut(image) for image in truth]
    later = [None if starts[t] else moves(truth[t - 1], truth[t]) for t in range(1, len(truth))]
    return Clip(path.stem, truth, [reduce(image) for image in truth], [None, *later])


def moves(before: Picture, after: Picture) -> NDArray[np.bool_]:
    """Whether each pixel moves."""
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in (before, after)]
    return np.asarray(cv2.blur(np.abs(grey[1] - grey[0]), AROUND) > MOVING)


def change(before: Picture, after: Picture) -> NDArray[np.int16]:
    """From one frame to the next."""
    return np.asarray(after.astype(np.int16) - before)


def peers(frames: dict[str, int]) -> Iterator[Method]:
    """Those that are installed."""
    for name, upscale in installed(frames):
        yield Method(name, each(upscale), frames[name])


def each(upscale: Upscale) -> Callable[[list[Picture]], Iterator[Result]]:
    """Frame by frame, by what knows images only."""
    return lambda conditions: ((upscale(condition), None) for condition in conditions)


def ours(pipe: Pipeline, frames: int) -> Iterator[Method]:
    """All settings."""
    for name, settings in SETTINGS.items():
        yield Method(name, stream(pipe, settings), frames)


def stream(pipe: Pipeline, settings: dict[str, Any]) -> Callable[[list[Picture]], Iterator[Result]]:
    """By `Pipeline.stream`."""
    return lambda conditions: ((frame.image, frame.bits_per_dim) for frame in pipe.stream(conditions, **settings))


def restored(method: Method, clip: Clip) -> tuple[list[Picture], list[Measures]]:
    """The frames of a clip, with the seconds that each took and its bits per dimension."""
    list(method.restore([clip.conditions[0][:WARM_UP, :WARM_UP]]))
    results, measures = [], []
    started = time.perf_counter()
    for image, bits in method.restore(clip.conditions[: method.frames]):
        ended = time.perf_counter()
        measures.append({"seconds": ended - started} | ({} if bits is None else {"bits/dim": bits}))
        results.append(image)
        started = time.perf_counter()
    return results, measures


def judged(results: list[Picture], clip: Clip, judge: Judge) -> list[Measures]:
    """What tells results from the truth, frame by frame. Flicker and change are sums over parts, over all pixels."""
    measures: list[Measures] = []
    for t, (result, truth, moving) in enumerate(zip(results, clip.truth, clip.moving, strict=False)):
        of_frame = {"psnr": psnr(result, truth)}
        if t % LPIPS_EVERY == 0:
            (of_frame["lpips"],) = judge.lpips([result], [truth])
        if moving is not None:
            own = change(results[t - 1], result)
            flicker = np.abs(own - change(clip.truth[t - 1], truth)).mean(2)
            of_frame["moving"] = float(moving.mean())
            of_frame["flicker moving"] = float((flicker * moving).mean())
            of_frame["flicker static"] = float((flicker * ~moving).mean())
            of_frame["change"] = float((np.abs(own).mean(2) * ~moving).mean())
        measures.append(of_frame)
    return measures


def still(clip: Clip, judge: Judge) -> list[Measures]:
    """Of the truth itself: how much of it moves, and how much the rest changes."""
    return [{k: of[k] for k in ("moving", "change") if k in of} for of in judged(clip.truth, clip, judge)]


def mean_of(measures: list[Measures]) -> Measures:
    """Of each measure over those that have it."""
    keys = dict.fromkeys(key for one in measures for key in one)
    return {key: float(np.mean([one[key] for one in measures if key in one])) for key in keys}


def average(frames: list[Measures]) -> Measures:
    """Over the frames of a clip; where nothing moves, moving parts have no flicker."""
    mean = mean_of(frames)
    moving = mean.get("moving", 0.0)
    parts = {"flicker moving": moving, "flicker static": 1 - moving, "change": 1 - moving}
    per_part = {key: mean[key] / part for key, part in parts.items() if key in mean and part}
    return {key: value for key, value in mean.items() if key not in parts} | per_part


def row(method: str, clip: str, frames: int, mean: Measures) -> Row:
    """One line of a table; what a method does not have is left empty."""
    known = mean | ({"frames/s": 1 / mean["seconds"]} if "seconds" in mean else {})
    keys = ("psnr", "lpips", "flicker static", "flicker moving", "change", "moving", "bits/dim", "frames/s")
    return {"method": method, "clip": clip, "frames": frames} | {key: known.get(key) for key in keys}


def table(measured: dict[tuple[str, str], list[Measures]], frames: int) -> list[Row]:
    """Means over clips, of all methods, over the first frames of each clip; without those that did fewer."""
    rows = []
    for method in dict.fromkeys(method for method, _ in measured):
        clips = [of_clip for (name, _), of_clip in measured.items() if name == method]
        if min(len(clip) for clip in clips) < frames:
            continue
        rows.append(row(method, "mean", frames, mean_of([average(clip[:frames]) for clip in clips])))
    return rows


def seams(folder: Path, clip: Clip, threads: int) -> list[Row]:
    """A clip in tiles against the same, of the same noise, in one piece; and the same of its changes over time."""
    height, width = clip.truth[0].shape[:2]
    given = clip.conditions[:TILED_FRAMES]

    def drawn(pixel_budget: int, overlap: int) -> list[Picture]:
        with load(folder, "cpu", threads, pixel_budget, overlap) as pipe:
            return [image for image, _ in stream(pipe, {})(given)]

    whole, rows = drawn(2 * height * width, 0), []
    for overlap in OVERLAPS:
        tiled = drawn(TILE**2, overlap)
        with load(folder, "cpu", threads) as pipe:
            windows = cut(height, width, pipe.manifest.model.size_multiple, TILE**2, overlap)
        error = np.abs(np.stack(tiled).astype(int) - np.stack(whole))
        changes = [[change(*pair) for pair in pairwise(images)] for images in (tiled, whole)]
        flicker = [np.mean([np.abs(c - w) for c, w in zip(of, truth_changes(clip), strict=False)], 0) for of in changes]
        near = [beside_borders(of.mean(2), windows) for of in flicker]
        rows.append(
            {
                "overlap": overlap,
                "tiles": len(windows),
                "RMS error, grey levels": float(np.sqrt(np.square(error).mean())),
                "largest": int(error.max()),
                "seam": float(np.mean([seam(a, b, windows) for a, b in zip(tiled, whole, strict=True)])),
                "seam of changes": float(np.mean([seam(a, b, windows) for a, b in zip(*changes, strict=True)])),
                "flicker at borders / elsewhere": near[0],
                "the same, one piece": near[1],
            }
        )
    return rows


def truth_changes(clip: Clip) -> Iterator[NDArray[np.int16]]:
    """From each frame to the next."""
    return (change(*pair) for pair in pairwise(clip.truth))


def beside_borders(values: NDArray[np.float64], windows: list[Any]) -> float:
    """Mean of the pixels beside the borders of tiles over the mean of the others."""
    beside = np.zeros(values.shape, bool)
    for axis in (0, 1):
        for place in borders(windows, axis):
            beside.swapaxes(0, axis)[place + 1 - NEAR : place + 1 + NEAR] = True
    return float(values[beside].mean() / values[~beside].mean())


def row_over_time(images: list[Picture]) -> Picture:
    """From top to bottom."""
    return np.stack([image[SLICE_ROW, SLICE_COLUMNS] for image in images])


def draw(slices: dict[str, NDArray[np.uint8]], picture: Path) -> None:
    """Those of `SHOWN`, one below the other."""
    parts = [np.pad(slices[name], ((0, 2), (0, 0), (0, 0)), constant_values=255) for name in SHOWN]
    stacked = np.vstack(parts)[:-2].repeat(MAGNIFIED, 0).repeat(MAGNIFIED, 1)
    cv2.imwrite(str(picture), cv2.cvtColor(stacked, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])


@click.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path, exists=True))
@click.option("--frames", default=FRAMES, show_default=True, help="Of each clip.")
@click.option("--srmdnf-frames", default=SRMDNF_FRAMES, show_default=True, help="By SRMDNF, which is slow; or 0.")
@click.option("--dat-frames", default=DAT_FRAMES, show_default=True, help="By DAT-light, which is slower; or 0.")
@click.option("--picture", type=click.Path(path_type=Path), help="Write a row of pixels over time here.")
@report.options
def main(
    folder: Path,
    frames: int,
    srmdnf_frames: int,
    dat_frames: int,
    picture: Path | None,
    threads: int,
    json_file: Path | None,
) -> None:
    """Judge BUNDLE; first: python models/photographs.py KIND build/photographs/KIND for clips and metrics."""
    torch.set_num_threads(threads)
    os.environ["LP_NUM_THREADS"] = str(threads)  # of Vulkan in software
    judge = Judge(PHOTOGRAPHS / "metrics")
    wanted = {"bicubic": frames, "srmdnf": min(frames, srmdnf_frames), "dat-light": min(frames, dat_frames)}
    clips = [read(path, frames) for path in sorted((PHOTOGRAPHS / "clips").iterdir())]
    measured = {("truth", clip.name): still(clip, judge) for clip in clips}
    slices = {"truth": row_over_time(next(clip.truth for clip in clips if clip.name == SLICED))}
    with load(folder, backend="cpu", threads=threads) as pipe:
        for method in (*peers({name: count for name, count in wanted.items() if count}), *ours(pipe, frames)):
            for clip in clips:
                results, measures = restored(method, clip)
                of_frames = [a | b for a, b in zip(measures, judged(results, clip, judge), strict=True)]
                measured[method.name, clip.name] = of_frames
                if clip.name == SLICED:
                    slices[method.name] = row_over_time(results)
    counts = sorted({len(of_frames) for of_frames in measured.values()}, reverse=True)
    means = [line for count in counts for line in table(measured, count)]
    each_clip = [row(method, clip, len(of), average(of)) for (method, clip), of in measured.items()]
    (tiled_clip,) = (clip for clip in clips if clip.name == TILED)
    at_borders = seams(folder, tiled_clip, threads)
    for rows in (means, each_clip, at_borders):
        report.show([{key: "" if value is None else value for key, value in row.items()} for row in rows])
        print()
    settings: dict[str, Any] = {"threads": threads, "lpips_every": LPIPS_EVERY, "moving": MOVING, "tile": TILE}
    report.write(json_file, means + each_clip, PACKAGES, seams=at_borders, tiled_frames=TILED_FRAMES, **settings)
    if picture:
        draw(slices, picture)


if __name__ == "__main__":
    main()
