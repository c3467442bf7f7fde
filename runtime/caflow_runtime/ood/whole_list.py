"""A statistical test of whether a list of images as a whole is like the calibration images.

It detects a deviation long before single images are conspicuous. For images like those of the calibration, typicality
is uniform between 0 and 1. The Kolmogorov–Smirnov distance measures how far the typicalities of a list are from
uniform, and its p-value is the probability of a distance at least as large by chance (Smirnov, "Table for estimating
the goodness of fit", 1948).

The distribution of the calibration is itself an estimate, so the p-value is that of a two-sample test. The sample sizes
are the number of images in the list and the number of photographs of the calibration. Crops of one photograph are too
similar to count as separate images.
"""

import math
from typing import Any

import numpy as np

MIN_PAIRS = 20
"""Number of images from which a list is compared with the calibration. Fewer images say little about a list."""
BINS = 1000
TERMS = 100
SMALL_P = 0.01
"""Threshold of the p-value: 1 in 100 lists of images like those of the calibration has a smaller p-value."""


class WholeList:
    """Histogram of the typicalities of a list of images.

    The memory does not depend on the number of images. Only one thread may add values at a time.
    """

    def __init__(self, photographs: int) -> None:
        """Start with an empty list.

        Arguments:
            photographs: number of photographs of the calibration.
        """
        self.photographs = photographs
        self._counts = np.zeros(BINS, np.int64)

    def add(self, values: Any) -> None:
        """Add typicalities, 0…1, of any shape. NaN, for images that cannot be judged, is ignored."""
        given = np.asarray(values, np.float64).ravel()
        places = np.ceil(given[np.isfinite(given)] * BINS).astype(np.int64) - 1
        np.add.at(self._counts, np.clip(places, 0, BINS - 1), 1)

    @property
    def count(self) -> int:
        """Number of values added so far."""
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

        A small value means that the list differs from the calibration images.
        """
        if not self.count:
            return math.nan
        size = math.sqrt(self.count * self.photographs / (self.count + self.photographs))
        far = (size + 0.12 + 0.11 / size) * self.distance  # Stephens' correction, 1970
        if far < 0.3:  # the series below converges too slowly here; the p-value is 1 to five digits
            return 1.0
        terms = ((-1) ** (k - 1) * math.exp(-2 * (k * far) ** 2) for k in range(1, TERMS))
        return min(1.0, max(0.0, 2 * math.fsum(terms)))
