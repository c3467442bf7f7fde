"""Detection of scene cuts in a video."""

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.image_arrays import Image

HISTOGRAM_BINS = (8, 8, 8)
"""Number of histogram bins for red, green and blue."""
COMPARED_PIXELS = 64
"""Frames are subsampled so that their shorter side keeps at least this many pixels."""
CUT_DISTANCE = 0.5
"""Bhattacharyya distance between the colour histograms of two frames, 0…1. A larger distance is a scene cut."""


class SceneCuts:
    """Finds the first frame of each scene, by comparing the colours of each frame with those of the frame before."""

    def __init__(self, distance: float = CUT_DISTANCE) -> None:
        self.distance = distance
        self._last: NDArray[np.float32] | None = None

    def __call__(self, frame: Image) -> bool:
        """Return whether a scene begins with this frame.

        A scene begins with the first frame, and with each frame whose colour histogram is very different.
        """
        step = max(1, min(frame.shape[:2]) // COMPARED_PIXELS)
        small = np.ascontiguousarray(frame[::step, ::step])
        histogram = cv2.calcHist([small], [0, 1, 2], None, HISTOGRAM_BINS, [0, 256] * 3)
        last, self._last = self._last, np.asarray(histogram, np.float32)
        return last is None or cv2.compareHist(last, self._last, cv2.HISTCMP_BHATTACHARYYA) > self.distance
