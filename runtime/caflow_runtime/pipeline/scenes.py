"""Where a video changes to another scene."""

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.image import Image

HISTOGRAM_BINS = (8, 8, 8)
COMPARED_PIXELS = 64
CUT_DISTANCE = 0.5
"""Between the histograms of two frames, Bhattacharyya's, 0…1."""


class SceneCuts:
    """Says of each frame whether it is of another scene than the one before, by their colours."""

    def __init__(self, distance: float = CUT_DISTANCE) -> None:
        self.distance = distance
        self._last: NDArray[np.float32] | None = None

    def __call__(self, frame: Image) -> bool:
        """True for the first frame, and where the histogram of colours changes at once."""
        step = max(1, min(frame.shape[:2]) // COMPARED_PIXELS)
        small = np.ascontiguousarray(frame[::step, ::step])
        histogram = cv2.calcHist([small], [0, 1, 2], None, HISTOGRAM_BINS, [0, 256] * 3)
        last, self._last = self._last, np.asarray(histogram, np.float32)
        return last is None or cv2.compareHist(last, self._last, cv2.HISTCMP_BHATTACHARYYA) > self.distance
