"""What is typical of images, as records that refuse impossible numbers.

Ranges are checked whenever a calibration is read or written; that the parts of a record fit each other, always.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from caflow_runtime.bundle.manifest import Strict

COMPLEXITIES = 3
"""Of the covariates; the last is the size."""
COVARIATES = COMPLEXITIES + 1
LINEAR = COVARIATES + 1
"""Of the basis: 1 and the covariates."""
BASIS = LINEAR + COMPLEXITIES * (COMPLEXITIES + 1) // 2
SMALLEST_SCALE = 1e-6
"""Of a covariate that is the same for all images."""
MOST_LOG_SPREAD = 100.0
"""Largest absolute logarithm of a standard deviation between `lowest` and `highest`; observed ones are below 10."""
QUANTILES = 1001
"""Of a distribution, or as many as there are images if that is less."""
ROUNDING = 1e-6
"""Relative error of a computed inverse covariance that is accepted."""

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Number = Annotated[float, Meta(ge=-1e30, le=1e30)]
"""Products of several of these are still finite."""
Positive = Annotated[float, Meta(ge=0, le=1e30)]
Covariate = Annotated[float, Meta(ge=0, le=64)]
"""A base-2 logarithm of at least 1: of differences of pixels, or of a number of pixels."""
PerCovariate = Annotated[list[Covariate], Meta(min_length=COVARIATES, max_length=COVARIATES)]
Scale = Annotated[float, Meta(ge=SMALLEST_SCALE, le=64)]
Quantiles = Annotated[list[Number], Meta(min_length=2, max_length=QUANTILES)]


class Fit(Strict, frozen=True):
    """How many bits per dimension to expect of n levels.

    They are around `mean` · x with the standard deviation exp(`log_spread` · x), x the `basis` of the image's
    covariates, of which `log_spread` takes the linear part.

    Raises:
        ValueError: when one is made or read whose parts do not fit each other.
    """

    lowest: PerCovariate
    highest: PerCovariate
    """Of the covariates: outside of these the nearest counts."""
    centre: PerCovariate
    scale: Annotated[list[Scale], Meta(min_length=COVARIATES, max_length=COVARIATES)]
    """Their means and standard deviations."""
    mean: Annotated[list[Annotated[list[Number], Meta(min_length=BASIS, max_length=BASIS)]], Meta(min_length=1)]
    log_spread: list[Annotated[list[Number], Meta(min_length=LINEAR, max_length=LINEAR)]]
    """Of each level."""

    def __post_init__(self) -> None:
        if any(low > high for low, high in zip(self.lowest, self.highest, strict=True)):
            raise ValueError(f"wanted lowest ≤ highest, got {self.lowest} and {self.highest}")
        if len(self.log_spread) != self.levels:
            raise ValueError(f"wanted log_spread of {self.levels} levels, as mean has, got {len(self.log_spread)}")
        ends = (np.array([self.lowest, self.highest]) - self.centre) / self.scale
        largest = np.abs(self.log_spread) @ np.array([1.0, *np.abs(ends).max(0)])
        if not largest.max() <= MOST_LOG_SPREAD:
            raise ValueError(f"wanted logarithms of spreads up to ±{MOST_LOG_SPREAD:g}, got {largest.max():g}")

    @property
    def levels(self) -> int:
        """Of the model, n."""
        return len(self.mean)


class Reference(Fit, frozen=True):
    """What is typical of true images, or of samples at one temperature.

    The difference between an image's bits per dimension and what the fit expects, divided by the standard deviation,
    are its residuals. Quantiles are evenly spaced from the smallest value to the largest.
    """

    temperature: Positive | None
    """Of samples; None of true images."""
    images: Count
    precision: list[list[Number]]
    """Inverse covariance of the levels' residuals."""
    distances: Annotated[list[Positive], Meta(min_length=2, max_length=QUANTILES)]
    """Quantiles of Mahalanobis' distance of the residuals, of images that the fit did not see."""
    residuals: list[Quantiles]
    """Quantiles of each level's residuals, of such images."""
    bits_per_dim: Quantiles
    """Quantiles of the total, as it is."""
    bits_per_dim_per_level: list[Quantiles]

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_precision(self.precision, self.levels)
        for name in ("residuals", "bits_per_dim_per_level"):
            if (found := len(getattr(self, name))) != self.levels:
                raise ValueError(f"wanted {name} of {self.levels} levels, as mean has, got {found}")
        count = min(QUANTILES, self.images)
        for quantiles in (self.distances, self.bits_per_dim, *self.residuals, *self.bits_per_dim_per_level):
            if len(quantiles) != count or quantiles != sorted(quantiles):
                raise ValueError(f"wanted {count} rising quantiles of {self.images} images, got {len(quantiles)}")

    @property
    def smallest(self) -> float:
        """No image has a typicality below this: so many images cannot tell what is rarer."""
        return 1 / (self.images + 1)


def _check_precision(precision: list[list[float]], levels: int) -> None:
    """An inverse covariance is symmetric, has a positive diagonal, and gives no negative distance.

    Raises:
        ValueError
    """
    if [len(row) for row in precision] != [levels] * levels:
        raise ValueError(f"wanted a precision of {levels}×{levels}, got {[len(row) for row in precision]}")
    matrix = np.array(precision)
    error = ROUNDING * np.abs(matrix).max()
    is_symmetric = np.abs(matrix - matrix.T).max() <= error
    if not (is_symmetric and np.diagonal(matrix).min() > 0 and np.linalg.eigvalsh(matrix).min() >= -error):
        raise ValueError(f"wanted a precision that is an inverse covariance, got {precision}")
