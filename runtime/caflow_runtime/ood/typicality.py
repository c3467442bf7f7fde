"""Typicality of an image: a p-value under the distribution of the calibration images.

A high likelihood alone is weak evidence. Smooth images have a higher likelihood than detailed images, and unrelated
images can have a higher likelihood than any photograph (Nalisnick et al., "Do deep generative models know what they
don't know?", 2019). Therefore the bits per dimension of each level and statistics of the latents are compared with
those of images of similar size whose conditions are similarly complex. Deviations in both directions count. The
Mahalanobis distance of the residuals becomes a p-value by its rank among the distances of calibration images of the
same group (conformal prediction: Vovk et al., "Algorithmic learning in a random world", 2005). A fraction α of images
like those of the calibration has a typicality below α.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations_with_replacement
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.bundle.known_values import VALUES, dims_of
from caflow_runtime.bundle.manifest import Model
from caflow_runtime.checks import check_share
from caflow_runtime.errors import InputError
from caflow_runtime.flow.latent_statistics import DOWNWARDS, MEAN_SQUARE, STATISTICS, TO_THE_RIGHT, name_of
from caflow_runtime.image_arrays import Image
from caflow_runtime.ood.typicality_records import (
    COLOUR,
    COMPLEXITIES,
    DETAIL,
    SIZE,
    SPREAD,
    CalibrationGroup,
    FittedDistribution,
    ImageStatistic,
    TypicalityModel,
)

MAX_GREY = 0.02
"""Largest covariate `COLOUR` of a grey condition, whose channels differ by less than rounding."""
USUAL = 2.58
"""Absolute value, in standard deviations, that 1 in 100 normal values exceeds."""
CLEAR = 1.0
"""Absolute residual of a level, in standard deviations, from which on its direction is part of a reason."""
Floats = NDArray[np.float64]
"""Array of float64."""


@dataclass(frozen=True)
class Typicality:
    """Typicality of R images, for n levels and M measures. In `Samples`, two axes (B, N) take the place of R.

    Values are NaN if the calibration has no images of that kind (coloured or grey) or of that group. Such an image
    cannot be judged.
    """

    value: Floats
    """(R,) p-values, 0…1: the fraction of calibration images of the same group that are at most as typical."""
    per_level: Floats
    """(R, n) two-sided p-values, 0…1, of each level's bits per dimension alone."""
    residuals: Floats
    """(R, n) residuals of the bits/dim, in standard deviations; negative means more likely than expected."""
    latents: Floats
    """(R, M − n) residuals of the noise's statistics, in the order of `Likelihood.statistics`; empty for samples."""
    group: NDArray[np.str_]
    """(R,) name of each image's group, such as "coloured, small, plain"."""

    def accept(self, min_typicality: float = 0.01) -> NDArray[np.bool_]:
        """Return (R,) whether each image is accepted: whether its typicality is at least `min_typicality`.

        A fraction `min_typicality` of images like those of the calibration is rejected by mistake. Images that cannot
        be judged are not accepted either.

        Arguments:
            min_typicality: false rejection rate, 0…1; 0 accepts every image that can be judged.

        Raises:
            InputError: if min_typicality is not between 0 and 1.
        """
        check_share("min_typicality", min_typicality)
        return np.asarray(self.value >= min_typicality)

    @property
    def is_judged(self) -> NDArray[np.bool_]:
        """(R,) whether each image can be judged: the calibration has images of its kind, size and complexity."""
        return ~np.isnan(self.value)

    def of(self, index: Any) -> "Typicality":
        """Return the typicality of some images, selected by an index of the first axis."""
        return Typicality(*(getattr(self, field.name)[index] for field in fields(self)))

    def reshape(self, *shape: int) -> "Typicality":
        """Return the same values with the first axis reshaped to `shape`."""
        parts = (getattr(self, field.name) for field in fields(self))
        return Typicality(*(part.reshape(*shape, *part.shape[1:]) for part in parts))


def covariates(condition: Image, model: Model) -> Floats:
    """Return (4,) covariates of a condition of a model: three measures of its complexity, and how much is drawn.

    All of them are base-2 logarithms. Let d be the absolute differences of neighbouring pixels. The first covariate is
    log₂(1 + mean d) of the grey image, the second the same of each colour minus grey. The third is the mean of
    log₂(1 + d) of the grey image; it distinguishes a few sharp edges from much fine detail. The fourth is log₂ of the
    number of values that the model draws, divided by three: of pixels, if it draws whole images. The second is 0 for
    models that see the grey image alone. A mask is no part of the image.
    """
    size = math.log2(dims_of(condition, model) / VALUES)
    condition = np.ascontiguousarray(condition[..., :VALUES])
    grey = cv2.cvtColor(condition, cv2.COLOR_RGB2GRAY).astype(np.float32)
    steps = _steps(grey)
    colour = 0.0 if model.condition_color == "gray" else np.log2(1 + _steps(condition - grey[..., None]).mean())
    return np.array([np.log2(1 + steps.mean()), colour, np.log2(1 + steps).mean(), size], np.float64)


def typicality(typicality_model: TypicalityModel, measures: Floats, given: Floats) -> Typicality:
    """Return the typicality of R images with measures (R, M) and covariates `given` (R, 4)."""
    count, levels = len(measures), typicality_model.levels
    residuals, per_level = np.full(measures.shape, np.nan), np.full((count, levels), np.nan)
    value, group = np.full(count, np.nan), np.empty(count, object)
    greys = is_grey(given)
    for kind, word, rows in ((typicality_model.coloured, "coloured", ~greys), (typicality_model.grey, "grey", greys)):
        group[rows] = word
        if kind is None or not rows.any():
            continue
        residuals[rows] = standardized(measures[rows], given[rows], kind)
        per_level[rows] = _per_level(kind, residuals[rows])
        distance = mahalanobis(residuals[rows], np.array(kind.precision))
        for row, far in zip(np.flatnonzero(rows), distance, strict=True):
            found = group_of(kind, given[row])
            group[row] = ", ".join(part for part in (word, found.name if found else "of another size") if part)
            value[row] = np.nan if found is None else _value(found, far)
    return Typicality(value, per_level, residuals[:, :levels], residuals[:, levels:], group.astype(np.str_))


def distance_of(typicality_model: TypicalityModel, measures: Floats, given: Floats) -> float:
    """Return the Mahalanobis distance of one image, with measures (M,) and covariates (4,), from its expected measures.

    NaN if its kind is not known.
    """
    kind = typicality_model.grey if is_grey(given[None])[0] else typicality_model.coloured
    if kind is None:
        return math.nan
    return float(mahalanobis(standardized(measures[None], given[None], kind), np.array(kind.precision))[0])


def is_grey(given: Floats) -> NDArray[np.bool_]:
    """Return (R,) whether each condition is grey, from covariates (R, 4)."""
    return np.asarray(given[:, COLOUR] <= MAX_GREY)


def group_of(kind: ImageStatistic, given: Floats) -> CalibrationGroup | None:
    """Return the group of an image with covariates (4,), or None if the calibration has no such group."""
    for group in kind.groups:
        (small, large), (plain, detailed) = group.sizes, group.complexities
        if small <= given[SIZE] < large and plain <= given[DETAIL] < detailed:
            return group
    return None


def check_alpha(alpha: float, typicality_model: TypicalityModel) -> None:
    """Check that some typicality can be below `alpha` in every group, so that images can be rejected.

    Raises:
        InputError: if the check fails.
    """
    if not typicality_model.smallest < alpha < 1:
        raise InputError(
            f"α must be above {typicality_model.smallest:.2g} and below 1; got {alpha:g}. In the smallest group of the "
            f"{typicality_model.images} calibration images no typicality can be lower: use a larger α, or calibrate "
            "with more photographs"
        )


def temperature_of(temperature: float | Sequence[float]) -> float:
    """Return the temperature that all levels have.

    Raises:
        InputError: if levels have different temperatures.
    """
    values = np.unique(np.asarray(temperature, np.float64))
    if len(values) != 1:
        raise InputError(f"typicality requires one temperature for all levels; got {temperature!r}")
    return float(values[0])


def standardized(measures: Floats, given: Floats, fit: FittedDistribution) -> Floats:
    """Return (R, M) residuals of measures (R, M), for covariates `given` (R, 4)."""
    bounded = np.clip(given, fit.lowest, fit.highest)
    x = basis((bounded - fit.centre) / fit.scale)
    mean, log_spread = np.array(fit.mean), np.array(fit.log_spread)
    residuals: Floats = (measures - x @ mean.T) / np.exp(x[:, :SPREAD] @ log_spread.T)
    return residuals


def basis(given: Floats) -> Floats:
    """Return (R, 12) regression terms of covariates (R, 4).

    The terms are 1, the covariates, size², and the products of the complexities.
    """
    products = [given[:, i] * given[:, j] for i, j in combinations_with_replacement(range(COMPLEXITIES), 2)]
    return np.column_stack([np.ones(len(given)), given, given[:, SIZE] ** 2, *products])


def mahalanobis(residuals: Floats, precision: Floats) -> Floats:
    """Return (R,) Mahalanobis distances of residuals (R, M) from 0."""
    squares = np.einsum("ri,ij,rj->r", residuals, precision, residuals)
    return np.asarray(np.sqrt(np.maximum(squares, 0)))  # rounding may give slightly negative squares


def rank(values: Floats, quantiles: Sequence[float]) -> Floats:
    """Return the cumulative distribution function at each value, (R,) in 0…1.

    It is interpolated between evenly spaced quantiles.
    """
    return np.asarray(np.interp(values, quantiles, np.linspace(0, 1, len(quantiles)), left=0.0, right=1.0))


def reason(one: Typicality) -> str:
    """Return why one image is untypical, in words for people, with the statistic that led to these words.

    The arrays of `one` have no axis of images.
    """
    if np.isnan(one.value):
        return f"the calibration knows no such images: {one.group}"
    levels, measures = len(one.residuals), np.concatenate([one.residuals, one.latents])
    blocks = one.latents.reshape(-1, len(STATISTICS))
    wide = blocks[:, [TO_THE_RIGHT, DOWNWARDS]].min(1)  # how alike neighbours are, in both directions
    lowest = int(np.argmin(one.residuals))
    if len(blocks) and wide.max() > max(USUAL, np.abs(blocks[:, MEAN_SQUARE]).max()):
        words = "colours or contrast unlike its input's"
        found = levels + len(STATISTICS) * int(np.argmax(wide)) + TO_THE_RIGHT
    elif one.residuals[lowest] < -CLEAR:
        words, found = "softer than its input allows", lowest
    elif one.residuals[lowest] > CLEAR:
        words, found = "noisier or sharper than its input allows", int(np.argmax(one.residuals))
    else:
        words, found = "unusual structure", int(np.argmax(np.abs(measures)))
    name = f"bits/dim of level {found}" if found < levels else name_of(found - levels, len(one.latents), levels)
    return f"{words} ({name}: {measures[found]:+.1f} standard deviations)"


def _value(group: CalibrationGroup, distance: float) -> float:
    """Return the p-value of a distance among those of the group's images."""
    above = 1 - float(rank(np.array([distance]), group.distances)[0])
    return (1 + group.images * above) / (group.images + 1)


def _per_level(kind: ImageStatistic, residuals: Floats) -> Floats:
    """Return (R, n) two-sided p-values of each level's residual."""
    levels = residuals[:, : kind.levels].T
    below = np.stack([rank(level, known) for level, known in zip(levels, kind.residuals, strict=True)], 1)
    count = kind.images
    return np.minimum(1.0, (2 + 2 * count * np.minimum(below, 1 - below)) / (count + 1))


def _steps(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the absolute differences of neighbouring pixels, down and across; [0] for a single pixel."""
    lower, right = image[1:], image[:, 1:]
    steps = np.empty(lower.size + right.size, np.float32)
    np.subtract(lower, image[:-1], out=steps[: lower.size].reshape(lower.shape))
    np.subtract(right, image[:, :-1], out=steps[lower.size :].reshape(right.shape))
    return np.abs(steps, out=steps) if steps.size else np.zeros(1, np.float32)
