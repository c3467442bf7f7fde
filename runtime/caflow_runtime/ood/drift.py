"""Drift: two distances between the bits per dimension of recent images and those of the calibration.

The recent images are a sliding window. Let p be the fraction of the window in a bin and q the fraction of the
calibration in the same bin. The population stability index is

    PSI = Σ (p − q) ln(p / q),

which is Jeffreys' divergence (Siddiqi, "Credit risk scorecards", 2006). A common rule of thumb is: below 0.1 there is
no drift, above 0.2 the input should be examined. The Kolmogorov–Smirnov distance is the largest difference of the two
distribution functions, KS = sup |F(x) − G(x)|, 0…1.

Both are above 0 by chance, even without drift. For a window of n values, a calibration of m images and b bins,

    PSI / (1/n + 1/m) follows χ² with b − 1 degrees of freedom, so its mean is (b − 1) (1/n + 1/m) (Yurdakul,
        "Statistical properties of population stability index", 2018): 0.18 for 100 values, 100 images and 10 bins;
    KS has the mean 0.87 √(1/n + 1/m) (Smirnov, "Table for estimating the goodness of fit", 1948).

`Drift.expected_psi` and `expected_ks` are these means. `largest_psi` and `largest_ks` are the 99 % quantiles. All of
them assume independent values. Images of one scene, or samples of one image, are correlated and carry less information.
"""

import math
from typing import Any

import numpy as np

from caflow_runtime.errors import InputError
from caflow_runtime.ood.typicality import Floats, rank
from caflow_runtime.ood.typicality_model import TypicalityModel

BINS = 10
WINDOW = 1000
WORTH_A_LOOK = 0.2
"""PSI above which the input should be examined, by the rule of thumb."""
HALF_A_COUNT = 0.5
"""Number added to the count of every bin, so that the logarithm of an empty bin's fraction is finite."""
CHI_SQUARE_99 = 21.67
"""99 % quantile of χ² with `BINS` − 1 degrees of freedom."""
KOLMOGOROV_MEAN, KOLMOGOROV_99 = 0.8687, 1.6276
"""Mean, √(π/2) ln 2, and 99 % quantile of √n KS without drift."""


class Drift:
    """Sliding window of bits per dimension, compared with the distribution of a calibration.

    Only one thread may add values at a time.
    """

    def __init__(self, typicality_model: TypicalityModel, window: int = WINDOW) -> None:
        """Start with an empty window.

        Arguments:
            window: number of most recent values that count.

        Raises:
            InputError: if the check fails.
        """
        if window < 1:
            raise InputError(f"window must be at least 1; got {window}")
        self._quantiles = np.array(typicality_model.main.bits_per_dim)
        self._images = typicality_model.main.images
        # Deciles coincide if many values are equal; there are then fewer bins.
        self._deciles = np.unique(np.quantile(self._quantiles, np.arange(1, BINS) / BINS))
        self._values = np.empty(window)
        self._added = 0

    def add(self, values: Any) -> None:
        """Add bits per dimension, of any shape. Values that are not finite are ignored."""
        given = np.asarray(values, np.float64).ravel()
        given = given[np.isfinite(given)][-len(self._values) :]
        self._values[(self._added + np.arange(len(given))) % len(self._values)] = given
        self._added += len(given)

    @property
    def count(self) -> int:
        """Number of values in the window."""
        return min(self._added, len(self._values))

    @property
    def psi(self) -> float:
        """Population stability index over the deciles of the calibration; NaN if the window is empty."""
        if not self.count:
            return math.nan
        p, q = (self._shares(values) for values in (self._window, self._quantiles))
        return float(np.sum((p - q) * np.log(p / q)))

    @property
    def ks(self) -> float:
        """Kolmogorov–Smirnov distance from the calibration's distribution; NaN if the window is empty.

        The quantiles of the calibration are interpolated linearly.
        """
        if not self.count:
            return math.nan
        calibrated = rank(np.sort(self._window), self._quantiles.tolist())
        steps = np.arange(self.count + 1) / self.count
        return float(max(np.max(steps[1:] - calibrated), np.max(calibrated - steps[:-1])))

    @property
    def expected_psi(self) -> float:
        """Mean of `psi` for a window of this size without drift."""
        return (BINS - 1) * self._noise

    @property
    def expected_ks(self) -> float:
        """Mean of `ks` for a window of this size without drift."""
        return KOLMOGOROV_MEAN * math.sqrt(self._noise)

    @property
    def largest_psi(self) -> float:
        """99 % quantile of `psi` for a window of this size without drift."""
        return CHI_SQUARE_99 * self._noise

    @property
    def largest_ks(self) -> float:
        """99 % quantile of `ks` for a window of this size without drift."""
        return KOLMOGOROV_99 * math.sqrt(self._noise)

    @property
    def is_worth_a_look(self) -> bool:
        """Whether `psi` is above 0.2 and also above its 99 % quantile without drift."""
        return self.psi > max(WORTH_A_LOOK, self.largest_psi)

    @property
    def _window(self) -> Floats:
        return self._values[: self.count]

    @property
    def _noise(self) -> float:
        """1/n + 1/m for n values in the window and m calibration images; infinite if the window is empty."""
        return (1 / self.count if self.count else math.inf) + 1 / self._images

    def _shares(self, values: Floats) -> Floats:
        """Return the fraction of the values in each bin."""
        counts = np.bincount(np.searchsorted(self._deciles, values), minlength=len(self._deciles) + 1) + HALF_A_COUNT
        return np.asarray(counts / counts.sum())
