"""Clips with reduced and coded frames, and the measures of restored frames: PSNR, LPIPS, flicker and change.

Flicker is the error of the change from frame to frame. For a result r and the truth w it is the mean of
|(r[t] − r[t−1]) − (w[t] − w[t−1])| over pixels, channels and frames, in grey levels. It is measured separately for
static and moving parts, which depend on the truth only. A pixel moves between two frames if the change of grey,
averaged over the 5×5 pixels around the pixel, exceeds 4 levels. Pairs of frames across a scene cut are skipped.

“change” is the mean of |r[t] − r[t−1]| in static parts, which viewers see as flicker. The change of the truth itself is
noise of the camera and of the coding. LPIPS is measured on every fourth frame.
"""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from degradations import h264
from metrics import SCALE, Judge, Picture, psnr, reduce
from numpy.typing import NDArray

from caflow_deploy.video.file_source import FileSource
from caflow_runtime.pipeline.scenes import SceneCuts

LPIPS_EVERY = 4
MOVING, AROUND = 4.0, (5, 5)

Measures = dict[str, float]
"""Measures of a frame, or their means over frames, by name."""


@dataclass(frozen=True)
class Clip:
    """First frames of a clip."""

    name: str
    truth: list[Picture]
    moving: list[NDArray[np.bool_] | None]
    """Mask of the pixels that moved since the previous frame, for each frame; None for the first frame of a scene."""

    def conditions(self, scale: int, crf: int) -> list[Picture]:
        """Return the reduced frames, coded by H.264 at the constant rate factor `crf`. With 0 they are not coded."""
        reduced = [reduce(image, scale) for image in self.truth]
        return h264(reduced, crf) if crf else reduced


def read(path: Path, frames: int) -> Clip:
    """Read the first frames of a clip.

    They are cropped at the right and at the bottom to multiples of 4, so that ×2 and ×4 models have the same truth.
    """
    whole = [timed.image for timed in islice(FileSource(path).frames(), frames)]
    height, width = (side // SCALE * SCALE for side in whole[0].shape[:2])
    truth = [np.ascontiguousarray(image[:height, :width]) for image in whole]
    is_cut = SceneCuts()
    starts = [is_cut(image) for image in truth]
    later = [None if starts[t] else moves(truth[t - 1], truth[t]) for t in range(1, len(truth))]
    return Clip(path.stem, truth, [None, *later])


def moves(before: Picture, after: Picture) -> NDArray[np.bool_]:
    """Return whether each pixel moves from one frame to the next, (H, W)."""
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in (before, after)]
    return np.asarray(cv2.blur(np.abs(grey[1] - grey[0]), AROUND) > MOVING)


def change(before: Picture, after: Picture) -> NDArray[np.int16]:
    """Return the change from one frame to the next, in grey levels."""
    return np.asarray(after.astype(np.int16) - before)


def judged(results: list[Picture], clip: Clip, judge: Judge) -> list[Measures]:
    """Return the measures of each result.

    Flicker and change are sums over the moving or static part, divided by the number of all pixels. `average` divides
    them by the size of the part.
    """
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
    """Return the measures of the truth itself: the fraction of pixels that moves, and the change of the others."""
    return [{k: of[k] for k in ("moving", "change") if k in of} for of in judged(clip.truth, clip, judge)]


def mean_of(measures: list[Measures]) -> Measures:
    """Return the mean of each measure over all entries that contain it."""
    keys = dict.fromkeys(key for one in measures for key in one)
    return {key: float(np.mean([one[key] for one in measures if key in one])) for key in keys}


def average(frames: list[Measures]) -> Measures:
    """Return the means over the frames of a clip. A part without pixels has no flicker and no change."""
    mean = mean_of(frames)
    moving = mean.get("moving", 0.0)
    parts = {"flicker moving": moving, "flicker static": 1 - moving, "change": 1 - moving}
    per_part = {key: mean[key] / part for key, part in parts.items() if key in mean and part}
    return {key: value for key, value in mean.items() if key not in parts} | per_part
