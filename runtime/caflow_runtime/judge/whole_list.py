"""Whether a list of images as a whole is like calibration's, which is known long before single images are conspicuous.

Of images like those of calibration, typicality is uniform between 0 and 1. How far the values of a list are from that
is Kolmogorov and Smirnov's distance, and how rarely chance alone leads so far is a p-value (Smirnov, "Table for
estimating the goodness of fit", 1948). Calibration knows a distribution only as well as its photographs show it, so the
comparison is one of two samples: the list's images and calibration's photographs, whose crops are too much alike to
count singly.
"""

import math
from typing import Any

import numpy as np

BINS = 1000
TERMS = 100
SMALL_P = 0.01
"""Of lists that are like calibration's, 1 in 100 has a smaller p-value."""


class WholeList:
    """Typicalities of any number of images, in the same memory. One thread may add at a time."""

    def __init__(self, photographs: int) -> None:
        """`photographs`: of the calibration."""
        self.photographs = photographs
        self._counts = np.zeros(BINS, np.int64)

    def add(self, values: Any) -> None:
        """Typicalities, 0…1, of any shape; NaN, of what cannot be judged, does not count."""
        given = np.asarray(values, np.float64).ravel()
        places = np.ceil(given[np.isfinite(given)] * BINS).astype(np.int64) - 1
        np.add.at(self._counts, np.clip(places, 0, BINS - 1), 1)

    @property
    def count(self) -> int:
        """Values that were added."""
        return int(self._counts.sum())

    @property
    def distance(self) -> float:
        """The largest difference between the distribution of the values and the uniform one, 0…1; NaN of no values."""
        if not self.count:
            return math.nan
        below = np.cumsum(self._counts) / self.count
        return float(np.abs(below - np.arange(1, BINS + 1) / BINS).max())

    @property
    def p_value(self) -> float:
        """How often chance alone leads as far: small is unlike calibration's images; NaN of no values."""
        if not self.count:
            return math.nan
        size = math.sqrt(self.count * self.photographs / (self.count + self.photographs))
        far = (size + 0.12 + 0.11 / size) * self.distance  # Stephens' correction, 1970
        if far < 0.3:  # where the series below does not converge, and is 1 to five digits
            return 1.0
        terms = ((-1) ** (k - 1) * math.exp(-2 * (k * far) ** 2) for k in range(1, TERMS))
        return min(1.0, max(0.0, 2 * math.fsum(terms)))
