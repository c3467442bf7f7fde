"""Quality, flicker and speed of restored videos.

The first frames of five clips are reduced, coded by H.264 if `--crf` is given, and restored by bundles and peers.
Bundles may have several scales; each is compared with the peers of its scale. `flicker.py` defines the measures. The
time of a frame is that of restoring alone. The table of rates is of runs that take turns, on frames of 640×360.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import report
import torch
from flicker import LPIPS_EVERY, MOVING, Clip, Measures, average, judged, mean_of, read, still
from metrics import Judge, Picture, folder_of
from peers import Upscale, installed

from caflow_runtime.pipeline.pipeline import Pipeline, load

FRAMES, PEER_FRAMES = 60, {"realesr-animevideov3": 10, "srmdnf": 10, "dat-light": 5}
WARM_UP = 16
SETTINGS: dict[str, dict[str, Any]] = {
    "τ = 0": {"temperature": 0.0},
    "fixed": {"noise": "fixed"},
    "fixed, best of 10": {"noise": "fixed", "n": 10},
    "ar1:0.9": {"noise": 0.9},
    "fresh": {"noise": "fresh"},
}
"""Arguments of `Pipeline.stream` by setting. n is 1 by default."""
TEMPERATURE = 0.8
"""Temperature of all settings except τ = 0."""
RATED, RATED_SIZE, RATED_FRAMES, BATCHES, ROUNDS = "jwpIntro", (360, 640), 16, (1, 4), 5

Result = tuple[Picture, float | None]
"""A restored frame and its bits per dimension; None if the method has no likelihood."""
Measured = dict[tuple[str, str], list[Measures]]
"""Measures of each frame, by (method, clip)."""


@dataclass(frozen=True)
class Case:
    """Scale and coding of the conditions."""

    scale: int
    crf: int
    """Constant rate factor of H.264; 0 means that the frames are not coded."""


@dataclass(frozen=True)
class Method:
    """A method that restores frames."""

    name: str
    restore: Callable[[list[Picture]], Iterator[Result]]
    frames: int
    """Largest number of frames that are restored in each clip."""


def peers(frames: dict[str, int], scale: int) -> Iterator[Method]:
    """Generate the installed peers as methods. `frames` is the number of frames by peer; 0 skips a peer."""
    for name, upscale in installed((name for name, count in frames.items() if count), scale):
        yield Method(name, each(upscale), frames[name])


def each(upscale: Upscale) -> Callable[[list[Picture]], Iterator[Result]]:
    """Return a function that restores frames one by one with a method for images."""
    return lambda conditions: ((upscale(condition), None) for condition in conditions)


def ours(name: str, pipe: Pipeline, settings: tuple[str, ...], frames: int) -> Iterator[Method]:
    """Generate a method for each of the settings of a bundle."""
    for setting in settings:
        arguments = {"temperature": TEMPERATURE, **SETTINGS[setting]}
        yield Method(f"{name}, {setting}", stream(pipe, arguments), frames)


def stream(pipe: Pipeline, arguments: dict[str, Any]) -> Callable[[list[Picture]], Iterator[Result]]:
    """Return a function that restores frames by `Pipeline.stream`."""
    return lambda conditions: ((frame.image, frame.bits_per_dim) for frame in pipe.stream(conditions, **arguments))


def restored(method: Method, conditions: list[Picture]) -> tuple[list[Picture], list[Measures]]:
    """Restore the first frames of a clip. Return them with their seconds and bits per dimension, after a warm-up."""
    list(method.restore([conditions[0][:WARM_UP, :WARM_UP]]))
    results, measures = [], []
    started = time.perf_counter()
    for image, bits in method.restore(conditions[: method.frames]):
        ended = time.perf_counter()
        measures.append({"seconds": ended - started} | ({} if bits is None else {"bits/dim": bits}))
        results.append(image)
        started = time.perf_counter()
    return results, measures


def row(case: Case, method: str, clip: str, frames: int, mean: Measures) -> report.Row:
    """Return one row of a table. Measures that a method does not have are None."""
    known = mean | ({"frames/s": 1 / mean["seconds"]} if "seconds" in mean else {})
    keys = ("psnr", "lpips", "flicker static", "flicker moving", "change", "moving", "bits/dim", "frames/s")
    of = {"scale": case.scale, "crf": case.crf, "method": method, "clip": clip, "frames": frames}
    return of | {key: known.get(key) for key in keys}


def table(case: Case, measured: Measured) -> list[report.Row]:
    """Return the means over clips, with the largest number of frames first.

    Slow methods restore fewer frames. For each number of frames, the rows have the means over this number of first
    frames, of all methods that restored as many.
    """
    counts = sorted({len(of_frames) for of_frames in measured.values()}, reverse=True)
    rows = []
    for frames in counts:
        for method in dict.fromkeys(method for method, _ in measured):
            clips = [of_clip for (name, _), of_clip in measured.items() if name == method]
            if min(len(clip) for clip in clips) >= frames:
                rows.append(row(case, method, "mean", frames, mean_of([average(clip[:frames]) for clip in clips])))
    return rows


def rates(pipes: dict[str, Pipeline], clip: Clip) -> list[report.Row]:
    """Return the frames of 640×360 per second of each bundle and batch size, measured in turns."""
    height, width = RATED_SIZE
    truth = [np.ascontiguousarray(image[:height, :width]) for image in clip.truth[:RATED_FRAMES]]
    cropped = Clip(clip.name, truth, [None] * len(truth))
    runs: dict[tuple[str, int], Callable[[], object]] = {}
    for name, pipe in pipes.items():
        given = cropped.conditions(pipe.manifest.model.scale, 0)
        for batch in BATCHES:
            restore = stream(pipe, {"temperature": TEMPERATURE, "batch": batch})
            runs[name, batch] = partial(lambda restore, given: list(restore(given)), restore, given)
    seconds = report.side_by_side(runs, ROUNDS)
    return [{"method": name, "batch": batch, "frames/s": len(truth) / took} for (name, batch), took in seconds.items()]


@click.command()
@report.BUNDLES
@click.option("--frames", default=FRAMES, show_default=True, help="Number of frames of each clip.")
@click.option(
    "--crf",
    "crfs",
    type=int,
    multiple=True,
    default=(0,),
    show_default=True,
    help="Code the reduced frames with H.264 at this constant rate factor first; 0 does not code them. "
    "Repeat the option for several.",
)
@click.option("--setting", "settings", type=click.Choice(list(SETTINGS)), multiple=True, default=[*SETTINGS])
@report.options
def main(
    bundles: tuple[Path, ...],
    frames: int,
    crfs: tuple[int, ...],
    settings: tuple[str, ...],
    threads: int,
    json_file: Path | None,
) -> None:
    """Judge videos that each BUNDLE and its peers restore."""
    torch.set_num_threads(threads)
    os.environ["LP_NUM_THREADS"] = str(threads)  # threads of Vulkan in software
    judge = Judge()
    slow = {name: min(frames, count) for name, count in PEER_FRAMES.items()}
    wanted = {"bicubic": frames, "lanczos": frames} | slow
    clips = [read(path, frames) for path in sorted(folder_of("clips").iterdir())]
    truth = {("truth", clip.name): still(clip, judge) for clip in clips}
    rows: list[report.Row] = []
    with ExitStack() as stack:
        pipes = {folder.stem: stack.enter_context(load(folder, "cpu", threads)) for folder in bundles}
        speeds = rates(pipes, next(clip for clip in clips if clip.name == RATED))
        report.show(speeds)
        scales = dict.fromkeys(pipe.manifest.model.scale for pipe in pipes.values())
        for case in (Case(scale, crf) for scale in scales for crf in crfs):
            methods = [*peers(wanted, case.scale)]
            for name, pipe in pipes.items():
                if pipe.manifest.model.scale == case.scale:
                    methods += ours(name, pipe, settings, frames)
            measured: Measured = {**truth}
            for clip in clips:
                conditions = clip.conditions(case.scale, case.crf)
                for method in methods:
                    results, measures = restored(method, conditions)
                    of_frames = [a | b for a, b in zip(measures, judged(results, clip, judge), strict=True)]
                    measured[method.name, clip.name] = of_frames
            means = table(case, measured)
            each_clip = [row(case, method, clip, len(of), average(of)) for (method, clip), of in measured.items()]
            report.show(means)
            report.show(each_clip)
            rows += means + each_clip
            shared: dict[str, Any] = {"threads": threads, "lpips_every": LPIPS_EVERY, "moving": MOVING}
            report.write(json_file, rows, {"rates": speeds}, temperature=TEMPERATURE, **shared)


if __name__ == "__main__":
    main()
