"""Clips, their coded and reduced frames, and what tells restored frames from the true ones: PSNR, LPIPS and flicker.

Flicker is what changes over time and should not, or should and does not: of a result r of the truth w the mean of
|(r[t] − r[t−1]) − (w[t] − w[t−1])| over pixels, channels and frames, in grey levels. Static and moving parts are told
apart by the truth alone: a pixel moves between two frames where the change of grey, averaged over the 5×5 pixels around
it, exceeds 4 levels. Pairs of frames across a scene cut do not count.

“change” is the mean of |r[t] − r[t−1]| in static parts: what an eye sees there; that of the truth is noise of the
camera and of its coding. LPIPS is of every fourth frame.
"""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from degradations import h264
from metrics import SCALE, Judge, Picture, psnr, reduce
from numpy.typing import NDArray

from caflow_runtime.pipeline.scenes import SceneCuts
from caflow_runtime.video.source import FileSource

LPIPS_EVERY = 4
MOVING, AROUND = 4.0, (5, 5)

Measures = dict[str, float]
"""Of a frame, or a mean over frames."""


@dataclass(frozen=True)
class Clip:
    """The start of a clip."""

    name: str
    truth: list[Picture]
    moving: list[NDArray[np.bool_] | None]
    """Of each frame, what moved since the one before; None for the first of a scene."""

    def conditions(self, scale: int, crf: int) -> list[Picture]:
        """The frames reduced, and coded by H.264 at a constant rate factor unless that is 0."""
        reduced = [reduce(image, scale) for image in self.truth]
        return h264(reduced, crf) if crf else reduced


def read(path: Path, frames: int) -> Clip:
    """A clip, cropped at the right and at the bottom to multiples of 4, so that ×2 and ×4 have the same truth."""
    whole = [timed.image for timed in islice(FileSource(path).frames(), frames)]
    height, width = (side // SCALE * SCALE for side in whole[0].shape[:2])
    truth = [np.ascontiguousarray(image[:height, :width]) for image in whole]
    is_cut = SceneCuts()
    starts = [is_cut(image) for image in truth]
    later = [None if starts[t] else moves(truth[t - 1], truth[t]) for t in range(1, len(truth))]
    return Clip(path.stem, truth, [None, *later])


def moves(before: Picture, after: Picture) -> NDArray[np.bool_]:
    """Whether each pixel moves."""
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in (before, after)]
    return np.asarray(cv2.blur(np.abs(grey[1] - grey[0]), AROUND) > MOVING)


def change(before: Picture, after: Picture) -> NDArray[np.int16]:
    """From one frame to the next."""
    return np.asarray(after.astype(np.int16) - before)


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
