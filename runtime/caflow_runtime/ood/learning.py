"""Computing a `TypicalityModel` from measures of many images: regression, quantiles of distances, and groups."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from msgspec.structs import asdict
from numpy.typing import NDArray

from caflow_runtime.ood.typicality import Floats, basis, is_grey, mahalanobis, standardized
from caflow_runtime.ood.typicality_records import (
    DETAIL,
    FEWER_QUANTILES,
    MAX_COVARIATE,
    QUANTILES,
    SIZE,
    SMALLEST_SCALE,
    SPREAD,
    CalibrationGroup,
    FittedDistribution,
    ImageStatistic,
    TypicalityModel,
)

MIN_PAIRS = 20
"""Minimum number of images of a kind. With fewer, a false rejection rate of 1 in 20 cannot be estimated."""
MIN_IN_GROUP = 100
"""Minimum number of images of a group. With fewer, a false rejection rate of 1 in 100 cannot be estimated."""
SIZES = (13.0, 15.0)
"""Base-2 logarithms of the numbers of target pixels, 90² and 181², that separate small, medium and large images."""
SIZE_NAMES = ("small", "medium", "large")
OUTLYING = 0.05
"""Fraction of images at either end of a covariate that are clipped to the remaining range. A fitted quadratic curve is
unreliable at its ends."""
RIDGE = 0.01
"""Ridge penalty, relative to the mean square of each covariate. It is needed because some covariates are nearly
collinear."""
SHRINKAGE = 0.1
"""Shrinkage of the residuals' covariance towards its diagonal. It is needed because there may be few images per
measure."""
DIGITS = 5
MEAN_LOG_OF_NORMAL = -0.635
"""E ln|x|, x ~ N(0, 1)."""
SMALLEST_RESIDUAL = 1e-6
"""Smallest absolute residual that is fitted; samples at τ = 0 of similar images may differ by less."""


def learn(
    temperature: float | None, measures: Floats, given: Floats, fold: NDArray[np.int64], levels: int
) -> TypicalityModel:
    """Return the typicality model of R images.

    Arguments:
        temperature: temperature of the samples; None for true images.
        measures: (R, M), bits per dimension of each level first.
        given: (R, 4) covariates.
        fold: (R,) number of the cross-validation fold of each image.
        levels: number of levels of the model.

    Raises:
        ValueError: if the images give no usable typicality model.
    """
    kinds = [
        _learn_kind(measures[rows], given[rows], fold[rows], levels) if rows.any() else None
        for rows in learnable_kinds(given)
    ]
    if not any(kinds):
        raise ValueError(f"at least {MIN_PAIRS} coloured or {MIN_PAIRS} grey images are required")
    return TypicalityModel(temperature, *kinds)


def learnable_kinds(given: Floats) -> list[NDArray[np.bool_]]:
    """Return which of R images are coloured, and which are grey, each (R,). A kind with too few images has none."""
    greys = is_grey(given)
    return [rows & (rows.sum() >= MIN_PAIRS) for rows in (~greys, greys)]


def _learn_kind(measures: Floats, given: Floats, fold: NDArray[np.int64], levels: int) -> ImageStatistic:
    """Return the statistics of one kind of images.

    Quantiles are computed from cross-validated residuals: each image is judged by a fit of the other folds. Residuals
    are therefore as large as those of new images, as in split conformal prediction, and every image is still used.
    """
    residuals, distances = np.empty_like(measures), np.empty(len(measures))
    for k in np.unique(fold):
        held_out = fold == k
        if held_out.all():
            raise ValueError("images of at least two photographs are required")
        part = _fit(measures[~held_out], given[~held_out])
        residuals[held_out] = standardized(measures[held_out], given[held_out], part)
        seen = standardized(measures[~held_out], given[~held_out], part)
        distances[held_out] = mahalanobis(residuals[held_out], _precision(seen))
    whole, bits = _fit(measures, given), measures[:, :levels]
    return ImageStatistic(
        **asdict(whole),
        images=len(measures),
        precision=_precision(standardized(measures, given, whole)).tolist(),
        groups=list(_groups(distances, given)),
        residuals=[_quantiles(level, FEWER_QUANTILES) for level in residuals[:, :levels].T],
        bits_per_dim=_quantiles(bits.sum(1), QUANTILES),
        bits_per_dim_per_level=[_quantiles(level, FEWER_QUANTILES) for level in bits.T],
    )


def _groups(distances: Floats, given: Floats) -> Iterator[CalibrationGroup]:
    """Yield groups by size, each split at its median complexity if both halves have enough images."""
    sizes = _divided(given[:, SIZE])
    for (low, high), size_name in sizes:
        of_size = (given[:, SIZE] >= low) & (given[:, SIZE] < high)
        middle = float(f"{np.median(given[of_size, DETAIL]):.{DIGITS}g}")
        is_plain = given[:, DETAIL] < middle
        halves = [(is_plain, [0.0, middle], "plain"), (~is_plain, [middle, MAX_COVARIATE], "detailed")]
        if min((of_size & half).sum() for half, _, _ in halves) < MIN_IN_GROUP:
            halves = [(of_size, [0.0, MAX_COVARIATE], "")]
        for half, complexities, detail_name in halves:
            rows = of_size & half
            name = ", ".join(part for part in (size_name if len(sizes) > 1 else "", detail_name) if part)
            known = _quantiles(distances[rows], QUANTILES)
            yield CalibrationGroup(name, [low, high], complexities, int(rows.sum()), known)


def _divided(sizes: Floats) -> list[tuple[tuple[float, float], str]]:
    """Return the bounds and names of the size classes.

    A class with too few images is merged with the next smaller class.
    """
    classes: list[tuple[tuple[float, float], str]] = []
    for (low, high), name in zip(pairwise((0.0, *SIZES, MAX_COVARIATE)), SIZE_NAMES, strict=True):
        if classes and (_count(sizes, (low, high)) < MIN_IN_GROUP or _count(sizes, classes[-1][0]) < MIN_IN_GROUP):
            (before, _), before_name = classes[-1]
            classes[-1] = (before, high), f"{before_name} or {name}"
        else:
            classes.append(((low, high), name))
    return classes


def _count(sizes: Floats, bounds: tuple[float, float]) -> int:
    return int(((sizes >= bounds[0]) & (sizes < bounds[1])).sum())


def _fit(measures: Floats, given: Floats) -> FittedDistribution:
    """Fit the measures by ridge regression, then the logarithms of the absolute residuals."""
    lowest, highest = np.quantile(given, (OUTLYING, 1 - OUTLYING), axis=0)
    bounded = np.clip(given, lowest, highest)
    centre, scale = bounded.mean(0), np.maximum(bounded.std(0), SMALLEST_SCALE)
    x = basis((bounded - centre) / scale)
    mean = _ridge(x, measures)
    left = np.maximum(np.abs(measures - x @ mean.T), SMALLEST_RESIDUAL)
    return FittedDistribution(
        lowest=lowest.tolist(),
        highest=highest.tolist(),
        centre=centre.tolist(),
        scale=scale.tolist(),
        mean=mean.tolist(),
        log_spread=_ridge(x[:, :SPREAD], np.log(left) - MEAN_LOG_OF_NORMAL).tolist(),
    )


def _precision(residuals: Floats) -> Floats:
    """Return the (M, M) inverse of the shrunk covariance of (R, M) residuals around 0."""
    covariance = residuals.T @ residuals / len(residuals)
    diagonal = np.diag(np.diagonal(covariance))
    precision = np.linalg.pinv((1 - SHRINKAGE) * covariance + SHRINKAGE * diagonal)
    return np.asarray((precision + precision.T) / 2)


def _ridge(x: Floats, values: Floats) -> Floats:
    """Return (M, k) ridge coefficients for (R, M) values on (R, k) terms, the first of which is the constant 1."""
    penalty = RIDGE * len(x) * np.eye(x.shape[1])
    penalty[0, 0] = 0
    return np.asarray(np.linalg.solve(x.T @ x + penalty, x.T @ values).T)


def _quantiles(values: Floats, most: int) -> list[float]:
    """Return evenly spaced quantiles from minimum to maximum, `most` of them or one per value if that is less."""
    count = min(most, len(values))
    return [float(f"{value:.{DIGITS}g}") for value in np.quantile(values, np.linspace(0, 1, count))]
