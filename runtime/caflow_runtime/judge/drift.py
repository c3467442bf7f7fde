"""Whether bits per dimension are distributed as at calibration: two distances of a sliding window from it.

With bins i, the window's share p of each and the calibration's share q, the population stability index is

    PSI = Σ (p − q) ln(p / q),

Jeffreys' divergence of the two (Siddiqi, "Credit risk scorecards", 2006, whose rule of thumb is: below 0.1 nothing
happened, above 0.2 look into it). The Kolmogorov–Smirnov distance is the largest difference of their distribution
functions, KS = sup |F(x) − G(x)|, 0…1.

Neither is 0 where nothing drifted. Of a window of n values, a calibration of m images and b bins, by chance alone,

    PSI is χ² of b − 1 degrees of freedom, times 1/n + 1/m (Yurdakul, "Statistical properties of population stability
        index", 2018): (b − 1) (1/n + 1/m) on average. Of 100 values and 100 images that is 0.18, and no drift;
    KS is 0.87 √(1/n + 1/m) on average (Smirnov, "Table for estimating the goodness of fit", 1948).

`Drift.expected_psi` and `expected_ks` are these averages; `largest_psi` and `largest_ks` are exceeded by one undrifted
window in 100. All of it is of independent values: images of one scene, or samples of one image, count for less.
"""

import math
from typing import Any

import numpy as np

from caflow_runtime.errors import InputError
from caflow_runtime.judge.reference import Reference
from caflow_runtime.judge.typicality import Floats, rank

BINS = 10
WINDOW = 1000
WORTH_A_LOOK = 0.2
"""PSI, by the rule of thumb."""
HALF_A_COUNT = 0.5
"""Is added to every bin, so that the logarithm of an empty one's share is finite."""
CHI_SQUARE_99 = 21.67
"""99 % quantile of χ² of `BINS` − 1 degrees of freedom."""
KOLMOGOROV_MEAN, KOLMOGOROV_99 = 0.8687, 1.6276
"""Of √n KS where nothing drifted: √(π/2) ln 2 on average, and its 99 % quantile."""


class Drift:
    """The last values, held against the quantiles of a calibration's `bits_per_dim`. One thread may add at a time."""

    def __init__(self, reference: Reference, window: int = WINDOW) -> None:
        """
        Arguments:
            window: so many of the last values count.

        Raises:
            InputError
        """
        if window < 1:
            raise InputError(f"window: wanted at least 1 value, got {window}")
        self._quantiles = np.array(reference.main.bits_per_dim)
        self._images = reference.main.images
        # Values that are alike give deciles that are one: fewer bins.
        self._deciles = np.unique(np.quantile(self._quantiles, np.arange(1, BINS) / BINS))
        self._values = np.empty(window)
        self._added = 0

    def add(self, values: Any) -> None:
        """Bits per dimension, of any shape; what is not finite does not count."""
        given = np.asarray(values, np.float64).ravel()
        given = given[np.isfinite(given)][-len(self._values) :]
        self._values[(self._added + np.arange(len(given))) % len(self._values)] = given
        self._added += len(given)

    @property
    def count(self) -> int:
        """Values in the window."""
        return min(self._added, len(self._values))

    @property
    def psi(self) -> float:
        """Of the calibration's deciles, half a count added to every bin; NaN of no values."""
        if not self.count:
            return math.nan
        p, q = (self._shares(values) for values in (self._window, self._quantiles))
        return float(np.sum((p - q) * np.log(p / q)))

    @property
    def ks(self) -> float:
        """Against the distribution that is linear between the calibration's quantiles; NaN of no values."""
        if not self.count:
            return math.nan
        calibrated = rank(np.sort(self._window), self._quantiles.tolist())
        steps = np.arange(self.count + 1) / self.count
        return float(max(np.max(steps[1:] - calibrated), np.max(calibrated - steps[:-1])))

    @property
    def expected_psi(self) -> float:
        """On average, of a window of this size that did not drift."""
        return (BINS - 1) * self._noise

    @property
    def expected_ks(self) -> float:
        """On average, of a window of this size that did not drift."""
        return KOLMOGOROV_MEAN * math.sqrt(self._noise)

    @property
    def largest_psi(self) -> float:
        """Exceeded by 1 in 100 windows of this size that did not drift."""
        return CHI_SQUARE_99 * self._noise

    @property
    def largest_ks(self) -> float:
        """Exceeded by 1 in 100 windows of this size that did not drift."""
        return KOLMOGOROV_99 * math.sqrt(self._noise)

    @property
    def is_worth_a_look(self) -> bool:
        """Whether PSI is above 0.2 and above what chance does."""
        return self.psi > max(WORTH_A_LOOK, self.largest_psi)

    @property
    def _window(self) -> Floats:
        return self._values[: self.count]

    @property
    def _noise(self) -> float:
        """1/n + 1/m; infinite of no values."""
        return (1 / self.count if self.count else math.inf) + 1 / self._images

    def _shares(self, values: Floats) -> Floats:
        counts = np.bincount(np.searchsorted(self._deciles, values), minlength=len(self._deciles) + 1) + HALF_A_COUNT
        return np.asarray(counts / counts.sum())
