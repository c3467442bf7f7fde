"""What is typical of images, as records that refuse impossible numbers.

Ranges are checked whenever a calibration is read or written; that the parts of a record fit each other, always.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from caflow_runtime.bundle.manifest import Strict

COMPLEXITIES = 3
"""Of the covariates; the last is the size."""
COLOUR, DETAIL, SIZE = 1, 2, 3
"""Places among the covariates: of what colours add to the differences of neighbours, of fine detail, of the size."""
COVARIATES = COMPLEXITIES + 1
SPREAD = COVARIATES + 2
"""The first terms of the basis, which spreads are fitted with: 1, the covariates, and the square of the size."""
BASIS = SPREAD + COMPLEXITIES * (COMPLEXITIES + 1) // 2
SMALLEST_SCALE = 1e-6
"""Of a covariate that is the same for all images."""
MOST_LOG_SPREAD = 100.0
"""Largest absolute logarithm of a standard deviation between `lowest` and `highest`; observed ones are below 10."""
MOST_COVARIATE = 64.0
QUANTILES = 1001
"""Of distances, which verdicts rest on, and of bits/dim, which drift rests on; or as many as there are images, if that
is less."""
FEWER_QUANTILES = 201
"""The same of other distributions."""
ROUNDING = 1e-6
"""Relative error of a computed inverse covariance that is accepted."""

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Number = Annotated[float, Meta(ge=-1e30, le=1e30)]
"""Products of several of these are still finite."""
Positive = Annotated[float, Meta(ge=0, le=1e30)]
Covariate = Annotated[float, Meta(ge=0, le=MOST_COVARIATE)]
"""A base-2 logarithm of at least 1: of differences of pixels, or of a number of pixels."""
PerCovariate = Annotated[list[Covariate], Meta(min_length=COVARIATES, max_length=COVARIATES)]
Scale = Annotated[float, Meta(ge=SMALLEST_SCALE, le=MOST_COVARIATE)]
Quantiles = Annotated[list[Number], Meta(min_length=2, max_length=FEWER_QUANTILES)]
ManyQuantiles = Annotated[list[Number], Meta(min_length=2, max_length=QUANTILES)]
Between = Annotated[list[Covariate], Meta(min_length=2, max_length=2)]
"""The lowest value, and the first that is too high."""


class Fit(Strict, frozen=True):
    """What to expect of K measures of an image.

    They are around `mean` · x with the standard deviation exp(`log_spread` · x), x the `basis` of the image's
    covariates, of which `log_spread` takes the first terms.

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
    log_spread: list[Annotated[list[Number], Meta(min_length=SPREAD, max_length=SPREAD)]]
    """Of each measure."""

    def __post_init__(self) -> None:
        if any(low > high for low, high in zip(self.lowest, self.highest, strict=True)):
            raise ValueError(f"wanted lowest ≤ highest, got {self.lowest} and {self.highest}")
        if len(self.log_spread) != self.measures:
            raise ValueError(f"wanted log_spread of {self.measures} measures, as mean has, got {len(self.log_spread)}")
        ends = (np.array([self.lowest, self.highest]) - self.centre) / self.scale
        bounds = np.abs(ends).max(0)
        largest = np.abs(self.log_spread) @ np.array([1.0, *bounds, bounds[-1] ** 2])
        if not largest.max() <= MOST_LOG_SPREAD:
            raise ValueError(f"wanted logarithms of spreads up to ±{MOST_LOG_SPREAD:g}, got {largest.max():g}")

    @property
    def measures(self) -> int:
        """K."""
        return len(self.mean)


class Group(Strict, frozen=True):
    """Images of similar sizes and complexities, among which typicality is a rank: so its promise holds in each."""

    name: str
    """For people, such as "small, plain"; empty where there is one group alone."""
    sizes: Between
    complexities: Between
    """Covariates number `SIZE` and `DETAIL` of its images."""
    images: Count
    distances: Annotated[list[Positive], Meta(min_length=2, max_length=QUANTILES)]
    """Quantiles of Mahalanobis' distance of the residuals, of images that the fit did not see."""

    def __post_init__(self) -> None:
        if self.sizes[0] >= self.sizes[1] or self.complexities[0] >= self.complexities[1]:
            raise ValueError(f"wanted rising bounds of a group, got {self.sizes} and {self.complexities}")
        _check_quantiles(self.distances, self.images, QUANTILES)


class Kind(Fit, frozen=True):
    """What is typical of images of one kind, coloured or grey.

    The difference between a measure and what the fit expects, divided by the standard deviation, is its residual.
    Quantiles are evenly spaced from the smallest value to the largest.
    """

    images: Count
    precision: list[list[Number]]
    """Inverse covariance of the residuals."""
    groups: Annotated[list[Group], Meta(min_length=1)]
    residuals: Annotated[list[Quantiles], Meta(min_length=1)]
    """Quantiles of the residuals of each level's bits per dimension, of images that the fit did not see."""
    bits_per_dim: ManyQuantiles
    """Quantiles of the total, as it is."""
    bits_per_dim_per_level: list[Quantiles]

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_precision(self.precision, self.measures)
        if self.levels > self.measures or len(self.bits_per_dim_per_level) != self.levels:
            raise ValueError(
                f"wanted residuals and bits_per_dim_per_level of the same levels, at most {self.measures}, got "
                f"{self.levels} and {len(self.bits_per_dim_per_level)}"
            )
        if (found := sum(group.images for group in self.groups)) != self.images:
            raise ValueError(f"wanted groups of {self.images} images in all, got {found}")
        _check_quantiles(self.bits_per_dim, self.images, QUANTILES)
        for quantiles in (*self.residuals, *self.bits_per_dim_per_level):
            _check_quantiles(quantiles, self.images, FEWER_QUANTILES)

    @property
    def levels(self) -> int:
        """Of the model, n: the first n measures are their bits per dimension."""
        return len(self.residuals)


class Reference(Strict, frozen=True):
    """What is typical of true images, or of samples at one temperature."""

    temperature: Positive | None
    """Of samples; None of true images."""
    coloured: Kind | None
    grey: Kind | None
    """None where calibration saw too few such images."""

    def __post_init__(self) -> None:
        shapes = {(kind.levels, kind.measures) for kind in self.kinds}
        if len(shapes) != 1:
            raise ValueError(f"wanted kinds of images with the same levels and measures, got {sorted(shapes)}")

    @property
    def kinds(self) -> list[Kind]:
        """Those that are known."""
        return [kind for kind in (self.coloured, self.grey) if kind is not None]

    @property
    def main(self) -> Kind:
        """Of coloured images where they are known."""
        return self.kinds[0]

    @property
    def levels(self) -> int:
        """Of the model, n."""
        return self.main.levels

    @property
    def images(self) -> int:
        """Of all kinds."""
        return sum(kind.images for kind in self.kinds)

    @property
    def smallest(self) -> float:
        """In some group no image has a typicality below this: so few images cannot tell what is rarer."""
        return 1 / (min(group.images for kind in self.kinds for group in kind.groups) + 1)


def _check_quantiles(quantiles: list[float], images: int, most: int) -> None:
    """Raises:
    ValueError
    """
    count = min(most, images)
    if len(quantiles) != count or quantiles != sorted(quantiles):
        raise ValueError(f"wanted {count} rising quantiles of {images} images, got {len(quantiles)}")


def _check_precision(precision: list[list[float]], measures: int) -> None:
    """An inverse covariance is symmetric, has a positive diagonal, and gives no negative distance.

    Raises:
        ValueError
    """
    if [len(row) for row in precision] != [measures] * measures:
        raise ValueError(f"wanted a precision of {measures}×{measures}, got {[len(row) for row in precision]}")
    matrix = np.array(precision)
    error = ROUNDING * np.abs(matrix).max()
    is_symmetric = np.abs(matrix - matrix.T).max() <= error
    if not (is_symmetric and np.diagonal(matrix).min() > 0 and np.linalg.eigvalsh(matrix).min() >= -error):
        raise ValueError("wanted a precision that is an inverse covariance: symmetric, and without negative distances")
