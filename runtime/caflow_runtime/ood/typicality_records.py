"""Records that describe the distribution of the measures of images.

msgspec checks the range of each number when a calibration is read or written. Whether the parts of a record fit each
other is checked whenever a record is created.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from caflow_runtime.bundle.manifest import Strict

COMPLEXITIES = 3
"""Number of covariates that measure complexity; the last covariate is the size."""
COLOUR, DETAIL, SIZE = 1, 2, 3
"""Indices of covariates: additional differences between neighbouring pixels in colour, fine detail, and size."""
COVARIATES = COMPLEXITIES + 1
SPREAD = COVARIATES + 2
"""Number of basis terms for log standard deviations: the first ones, 1, the covariates, and the square of the size."""
BASIS = SPREAD + COMPLEXITIES * (COMPLEXITIES + 1) // 2
SMALLEST_SCALE = 1e-6
"""Smallest standard deviation of a covariate, used if all images have the same value."""
MAX_LOG_SPREAD = 100.0
"""Largest absolute value of a log standard deviation within `lowest` … `highest`; observed values are below 10."""
MAX_COVARIATE = 64.0
QUANTILES = 1001
"""Maximum number of quantiles of distances, which decide verdicts, and of bits/dim, which are used for drift. There are
fewer if there are fewer images."""
FEWER_QUANTILES = 201
"""Maximum number of quantiles of all other distributions."""
ROUNDING = 1e-6
"""Relative rounding error that is accepted in an inverse covariance."""

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Number = Annotated[float, Meta(ge=-1e30, le=1e30)]
"""A finite number. Products of several such numbers are finite, too."""
Positive = Annotated[float, Meta(ge=0, le=1e30)]
Covariate = Annotated[float, Meta(ge=0, le=MAX_COVARIATE)]
"""Base-2 logarithm of a number that is at least 1: 1 + a difference of pixels, or a number of pixels."""
PerCovariate = Annotated[list[Covariate], Meta(min_length=COVARIATES, max_length=COVARIATES)]
Scale = Annotated[float, Meta(ge=SMALLEST_SCALE, le=MAX_COVARIATE)]
Quantiles = Annotated[list[Number], Meta(min_length=2, max_length=FEWER_QUANTILES)]
ManyQuantiles = Annotated[list[Number], Meta(min_length=2, max_length=QUANTILES)]
Between = Annotated[list[Covariate], Meta(min_length=2, max_length=2)]
"""Bounds of an interval: the lowest value, and the first value above the interval."""


class FittedDistribution(Strict, frozen=True):
    """Regression of M measures of an image on its covariates.

    With the `basis` x of the covariates, the expected value is `mean` · x, and the standard deviation is
    exp(`log_spread` · x). `log_spread` uses only the first `SPREAD` terms of x.

    Raises:
        ValueError: when a record is created or read whose parts do not fit each other.
    """

    lowest: PerCovariate
    highest: PerCovariate
    """Range of the covariates. Values outside are clipped to it."""
    centre: PerCovariate
    scale: Annotated[list[Scale], Meta(min_length=COVARIATES, max_length=COVARIATES)]
    """Mean (`centre`) and standard deviation (`scale`) of the clipped covariates."""
    mean: Annotated[list[Annotated[list[Number], Meta(min_length=BASIS, max_length=BASIS)]], Meta(min_length=1)]
    """(M, `BASIS`) coefficients of the expected values."""
    log_spread: list[Annotated[list[Number], Meta(min_length=SPREAD, max_length=SPREAD)]]
    """(M, `SPREAD`) coefficients of the log standard deviations."""

    def __post_init__(self) -> None:
        if any(low > high for low, high in zip(self.lowest, self.highest, strict=True)):
            raise ValueError(f"lowest must not be above highest; got {self.lowest} and {self.highest}")
        if len(self.log_spread) != self.measures:
            raise ValueError(f"log_spread must have {self.measures} measures, as mean has; got {len(self.log_spread)}")
        ends = (np.array([self.lowest, self.highest]) - self.centre) / self.scale
        bounds = np.abs(ends).max(0)
        largest = np.abs(self.log_spread) @ np.array([1.0, *bounds, bounds[-1] ** 2])
        if not largest.max() <= MAX_LOG_SPREAD:
            raise ValueError(f"log_spread must give logarithms within ±{MAX_LOG_SPREAD:g}; got {largest.max():g}")

    @property
    def measures(self) -> int:
        """Number of measures, M."""
        return len(self.mean)


class CalibrationGroup(Strict, frozen=True):
    """Images of similar size and complexity.

    Typicality is a rank within a group, so the false rejection rate is α in each group.
    """

    name: str
    """Name for people, such as "small, plain"; empty if there is only one group."""
    sizes: Between
    complexities: Between
    """Intervals of the covariates `SIZE` (`sizes`) and `DETAIL` (`complexities`)."""
    images: Count
    distances: Annotated[list[Positive], Meta(min_length=2, max_length=QUANTILES)]
    """Quantiles of the Mahalanobis distances of images that the fit did not see."""

    def __post_init__(self) -> None:
        if self.sizes[0] >= self.sizes[1] or self.complexities[0] >= self.complexities[1]:
            raise ValueError(f"bounds of a group must be increasing; got {self.sizes} and {self.complexities}")
        _check_quantiles(self.distances, self.images, QUANTILES)


class ImageStatistic(FittedDistribution, frozen=True):
    """Distribution of the measures of one kind of images: coloured or grey.

    The residual of a measure is its difference from the fitted expectation, in standard deviations. Quantiles are
    evenly spaced from the smallest value to the largest.
    """

    images: Count
    precision: list[list[Number]]
    """(M, M) inverse covariance of the residuals."""
    groups: Annotated[list[CalibrationGroup], Meta(min_length=1)]
    residuals: Annotated[list[Quantiles], Meta(min_length=1)]
    """Quantiles of the residuals of each level's bits per dimension, for images that the fit did not see."""
    bits_per_dim: ManyQuantiles
    """Quantiles of the total bits per dimension, not of its residual."""
    bits_per_dim_per_level: list[Quantiles]
    """Quantiles of each level's bits per dimension."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_precision(self.precision, self.measures)
        if self.levels > self.measures or len(self.bits_per_dim_per_level) != self.levels:
            raise ValueError(
                f"residuals and bits_per_dim_per_level must have the same number of levels, at most {self.measures}; "
                f"got {self.levels} and {len(self.bits_per_dim_per_level)}"
            )
        if (found := sum(group.images for group in self.groups)) != self.images:
            raise ValueError(f"groups must have {self.images} images in total; got {found}")
        _check_quantiles(self.bits_per_dim, self.images, QUANTILES)
        for quantiles in (*self.residuals, *self.bits_per_dim_per_level):
            _check_quantiles(quantiles, self.images, FEWER_QUANTILES)

    @property
    def levels(self) -> int:
        """Number of levels of the model, n. The first n measures are their bits per dimension."""
        return len(self.residuals)


class TypicalityModel(Strict, frozen=True):
    """Distribution of the measures of true images, or of samples at one temperature."""

    temperature: Positive | None
    """Temperature of the samples; None for true images."""
    coloured: ImageStatistic | None
    grey: ImageStatistic | None
    """Distribution of one kind of images; None if the calibration had too few images of that kind."""

    def __post_init__(self) -> None:
        shapes = {(kind.levels, kind.measures) for kind in self.kinds}
        if len(shapes) != 1:
            raise ValueError(
                "at least one kind of images is required, and all kinds must have the same levels and measures; got "
                f"{sorted(shapes)}"
            )

    @property
    def kinds(self) -> list[ImageStatistic]:
        """The kinds of images that are known, coloured first."""
        return [kind for kind in (self.coloured, self.grey) if kind is not None]

    @property
    def main(self) -> ImageStatistic:
        """The distribution of coloured images if it is known, otherwise of grey images."""
        return self.kinds[0]

    @property
    def levels(self) -> int:
        """Number of levels of the model, n."""
        return self.main.levels

    @property
    def images(self) -> int:
        """Number of images of all kinds."""
        return sum(kind.images for kind in self.kinds)

    @property
    def smallest(self) -> float:
        """Lowest possible typicality in the smallest group: 1 / (m + 1) for a group of m images.

        Only a larger α can reject images in every group.
        """
        return 1 / (min(group.images for kind in self.kinds for group in kind.groups) + 1)


def _check_quantiles(quantiles: list[float], images: int, most: int) -> None:
    """Check the number and order of quantiles.

    Raises:
        ValueError: if the check fails.
    """
    count = min(most, images)
    if len(quantiles) != count or quantiles != sorted(quantiles):
        raise ValueError(f"expected {count} quantiles of {images} images in ascending order; got {len(quantiles)}")


def _check_precision(precision: list[list[float]], measures: int) -> None:
    """Check that a matrix is an inverse covariance: symmetric, with a positive diagonal and positive semidefinite.

    Raises:
        ValueError: if the check fails.
    """
    if [len(row) for row in precision] != [measures] * measures:
        raise ValueError(
            f"precision must be a {measures}×{measures} matrix; got rows of lengths {[len(row) for row in precision]}"
        )
    matrix = np.array(precision)
    error = ROUNDING * np.abs(matrix).max()
    is_symmetric = np.abs(matrix - matrix.T).max() <= error
    if not (is_symmetric and np.diagonal(matrix).min() > 0 and np.linalg.eigvalsh(matrix).min() >= -error):
        raise ValueError(
            "precision must be an inverse covariance: symmetric, with a positive diagonal and positive semidefinite"
        )
