"""Drift: a statistical test of whether many images as a whole are like those of the calibration.

It detects a deviation long before single images are conspicuous. For images like those of the calibration, typicality
is uniform between 0 and 1, and so is the rank of their bits per dimension among the calibration's. The
Kolmogorov–Smirnov distance measures how far such values are from uniform, and its p-value is the probability of a
distance at least as large by chance (Smirnov, "Table for estimating the goodness of fit", 1948).

The distribution of the calibration is itself an estimate, so the p-value is that of a two-sample test. The sample sizes
are the number of values and the number of photographs of the calibration. Crops of one photograph are too similar to
count as separate images, and so are images of one scene.
"""

import math
from collections import deque
from typing import Any

import numpy as np

from caflow_runtime.errors import InputError

WINDOW = 1000
"""Number of recent images that drift of a server is measured on."""
MIN_VALUES = 20
"""Number of values from which they are compared with the calibration. Fewer say little about all."""
SMALL_P = 0.01
"""Threshold of the p-value: 1 in 100 lists of images like those of the calibration has a smaller p-value."""
BINS = 1000
TERMS = 100


class Drift:
    """Histogram of values that are uniform between 0 and 1 without drift: of all that were added, or of the last ones.

    The memory does not depend on the number of values. Only one thread may add values at a time.
    """

    def __init__(self, photographs: int, window: int | None = None) -> None:
        """Start without values.

        Arguments:
            photographs: number of photographs of the calibration.
            window: number of most recent values that count; None counts all.

        Raises:
            InputError: if the window is below 1.
        """
        if window is not None and window < 1:
            raise InputError(f"window must be at least 1; got {window}")
        self.photographs = photographs
        self._counts = np.zeros(BINS, np.int64)
        self._window = window
        self._recent: deque[int] = deque()

    def add(self, values: Any) -> None:
        """Add values, 0…1, of any shape. NaN, for images that cannot be judged, is ignored."""
        given = np.asarray(values, np.float64).ravel()
        bins = np.clip(np.ceil(given[np.isfinite(given)] * BINS).astype(np.int64) - 1, 0, BINS - 1)
        np.add.at(self._counts, bins, 1)
        if self._window is not None:
            self._recent.extend(bins.tolist())
            while len(self._recent) > self._window:
                self._counts[self._recent.popleft()] -= 1

    @property
    def count(self) -> int:
        """Number of values that count."""
        return int(self._counts.sum())

    @property
    def distance(self) -> float:
        """Kolmogorov–Smirnov distance of the values from uniform, 0…1; NaN if there are no values."""
        if not self.count:
            return math.nan
        below = np.cumsum(self._counts) / self.count
        return float(np.abs(below - np.arange(1, BINS + 1) / BINS).max())

    @property
    def p_value(self) -> float:
        """Probability of a distance at least this large by chance; NaN if there are no values.

        A small value means that the images differ from those of the calibration.
        """
        if not self.count:
            return math.nan
        size = math.sqrt(self.count * self.photographs / (self.count + self.photographs))
        far = (size + 0.12 + 0.11 / size) * self.distance  # Stephens' correction, 1970
        if far < 0.3:  # the series below converges too slowly here; the p-value is 1 to five digits
            return 1.0
        terms = ((-1) ** (k - 1) * math.exp(-2 * (k * far) ** 2) for k in range(1, TERMS))
        return min(1.0, max(0.0, 2 * math.fsum(terms)))
