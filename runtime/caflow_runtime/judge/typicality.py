"""How typical an image is of what a calibration saw: a p-value, from all that was measured of the image.

A high likelihood alone says little: smooth images have a higher one than detailed ones, and foreign images may have a
higher one than any photograph (Nalisnick et al., "Do deep generative models know what they don't know?", 2019). So
bits per dimension, level by level, and statistics of latents are held against what images of that size with conditions
of that complexity have, in both directions; the distance becomes a p-value by ranking it among those of calibration
images of the same group (conformal prediction: Vovk et al., "Algorithmic learning in a random world", 2005). Of images
like those, a share α has a typicality below α.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations_with_replacement
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.checks import check_share
from caflow_runtime.errors import InputError
from caflow_runtime.flow.latents import names_of
from caflow_runtime.image import Image
from caflow_runtime.judge.reference import COLOUR, COMPLEXITIES, DETAIL, SIZE, SPREAD, Fit, Group, Kind, Reference

MOST_GREY = 0.02
"""Largest covariate number `COLOUR` of a grey condition: its channels differ by less than rounding."""
USUAL = 2.58
"""Standard deviations that 1 in 100 normal values exceeds."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Typicality:
    """How typical images are. Of R images, n levels and K measures; further axes as in the results that it is of.

    NaN of an image of a kind or group that the calibration does not know: it cannot be judged.
    """

    value: Floats
    """(R,) 0…1: the share of calibration images of its group that are no more typical."""
    per_level: Floats
    """(R, n) the same of each level's bits per dimension by themselves, in both directions."""
    residuals: Floats
    """(R, n) bits/dim above what is expected, in standard deviations: negative is likelier than it should be."""
    latents: Floats
    """(R, K − n) the same of statistics of latents, in the order of `latents.names_of`; samples have none."""
    group: NDArray[np.str_]
    """(R,) which group each is of, such as "coloured, small, plain"."""

    def accept(self, alpha: float = 0.01) -> NDArray[np.bool_]:
        """(R,): False for a share `alpha` of images like those of calibration, and for what cannot be judged.

        Arguments:
            alpha: 0…1; 0 accepts all that can be judged.

        Raises:
            InputError
        """
        check_share("alpha", alpha)
        return np.asarray(self.value >= alpha)

    @property
    def is_judged(self) -> NDArray[np.bool_]:
        """(R,): False for images that are unlike any of calibration's in kind, size or complexity."""
        return ~np.isnan(self.value)

    def of(self, index: Any) -> "Typicality":
        """Those of some images, by an index of the first axis."""
        return Typicality(*(getattr(self, field.name)[index] for field in fields(self)))

    def reshape(self, *shape: int) -> "Typicality":
        """The same with R as several axes."""
        parts = (getattr(self, field.name) for field in fields(self))
        return Typicality(*(part.reshape(*shape, *part.shape[1:]) for part in parts))


def covariates(condition: Image, scale: int) -> Floats:
    """(4,): three measures of a condition's complexity, and the size of its target, all as base-2 logarithms.

    Of the absolute differences d of neighbouring pixels: log₂(1 + mean d) of grey and of what each colour has over it,
    and the mean of log₂(1 + d) of grey, which tells a few sharp edges from much fine detail; the size is in pixels.
    """
    grey = cv2.cvtColor(condition, cv2.COLOR_RGB2GRAY).astype(np.float32)
    steps, colour_steps = _steps(grey), _steps(condition - grey[..., None])
    complexity = [np.log2(1 + steps.mean()), np.log2(1 + colour_steps.mean()), np.log2(1 + steps).mean()]
    return np.array([*complexity, math.log2(grey.size * scale**2)], np.float64)


def typicality(reference: Reference, measures: Floats, given: Floats) -> Typicality:
    """Of images with those measures, (R, K), and covariates, (R, 4)."""
    count, levels = len(measures), reference.levels
    residuals, per_level = np.full(measures.shape, np.nan), np.full((count, levels), np.nan)
    value, group = np.full(count, np.nan), np.empty(count, object)
    greys = is_grey(given)
    for kind, word, rows in ((reference.coloured, "coloured", ~greys), (reference.grey, "grey", greys)):
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


def distance_of(reference: Reference, measures: Floats, given: Floats) -> float:
    """Of one image, (K,) and (4,): Mahalanobis' distance from what is typical; NaN where its kind is not known."""
    kind = reference.grey if is_grey(given[None])[0] else reference.coloured
    if kind is None:
        return math.nan
    return float(mahalanobis(standardized(measures[None], given[None], kind), np.array(kind.precision))[0])


def is_grey(given: Floats) -> NDArray[np.bool_]:
    """(R,) of covariates, (R, 4)."""
    return np.asarray(given[:, COLOUR] <= MOST_GREY)


def group_of(kind: Kind, given: Floats) -> Group | None:
    """Of covariates, (4,)."""
    for group in kind.groups:
        (small, large), (plain, detailed) = group.sizes, group.complexities
        if small <= given[SIZE] < large and plain <= given[DETAIL] < detailed:
            return group
    return None


def check_alpha(alpha: float, reference: Reference) -> None:
    """Whether anything can be of less typicality.

    Raises:
        InputError
    """
    if not reference.smallest < alpha < 1:
        raise InputError(
            f"α = {alpha:g}: calibrated with {reference.images} images, in whose smallest group nothing is below "
            f"{reference.smallest:.2g}: wanted more than that and less than 1: take a larger one, or calibrate with "
            "more photographs"
        )


def temperature_of(temperature: float | Sequence[float]) -> float:
    """The one temperature of all levels.

    Raises:
        InputError: if they differ.
    """
    values = np.unique(np.asarray(temperature, np.float64))
    if len(values) != 1:
        raise InputError(f"typicality: wanted one temperature for all levels, got {temperature!r}")
    return float(values[0])


def standardized(measures: Floats, given: Floats, fit: Fit) -> Floats:
    """(R, K) residuals."""
    bounded = np.clip(given, fit.lowest, fit.highest)
    x = basis((bounded - fit.centre) / fit.scale)
    mean, log_spread = np.array(fit.mean), np.array(fit.log_spread)
    residuals: Floats = (measures - x @ mean.T) / np.exp(x[:, :SPREAD] @ log_spread.T)
    return residuals


def basis(given: Floats) -> Floats:
    """(R, 4) covariates to the (R, 12) that are fitted: 1, all of them, size², and the products of the complexities."""
    products = [given[:, i] * given[:, j] for i, j in combinations_with_replacement(range(COMPLEXITIES), 2)]
    return np.column_stack([np.ones(len(given)), given, given[:, SIZE] ** 2, *products])


def mahalanobis(residuals: Floats, precision: Floats) -> Floats:
    """(R,) distances from 0."""
    squares = np.einsum("ri,ij,rj->r", residuals, precision, residuals)
    return np.asarray(np.sqrt(np.maximum(squares, 0)))  # rounding may leave one just below 0


def rank(values: Floats, quantiles: Sequence[float]) -> Floats:
    """(R,) share of the distribution with these quantiles that is below each value."""
    return np.asarray(np.interp(values, quantiles, np.linspace(0, 1, len(quantiles)), left=0.0, right=1.0))


def reason(one: Typicality) -> str:
    """What is untypical of one image, for people; `one` has no further axes."""
    if np.isnan(one.value):
        return f"the calibration knows no such images: {one.group}"
    levels, latents = np.abs(one.residuals), np.abs(one.latents)
    if len(latents) and latents.max() > max(USUAL, levels.max()):
        found = int(np.argmax(latents))
        direction = "above" if one.latents[found] > 0 else "below"
        name = names_of(len(levels))[found]
        return f"its latents are unusual: the {name} is {latents[found]:.1f} standard deviations {direction} the usual"
    level = int(np.argmax(levels))
    if levels[level] < USUAL:
        levels_in_words = ", ".join(f"{value:+.1f}" for value in one.residuals)
        return f"its levels do not fit together: {levels_in_words} standard deviations"
    direction = "less likely" if one.residuals[level] > 0 else "likelier"
    return f"level {level} is {direction} than is typical: {levels[level]:.1f} standard deviations"


def _value(group: Group, distance: float) -> float:
    above = 1 - float(rank(np.array([distance]), group.distances)[0])
    return (1 + group.images * above) / (group.images + 1)


def _per_level(kind: Kind, residuals: Floats) -> Floats:
    levels = residuals[:, : kind.levels].T
    below = np.stack([rank(level, known) for level, known in zip(levels, kind.residuals, strict=True)], 1)
    count = kind.images
    return np.minimum(1.0, (2 + 2 * count * np.minimum(below, 1 - below)) / (count + 1))


def _steps(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Absolute differences of neighbours, down and across; 0 where there are none."""
    steps = np.concatenate([np.abs(np.diff(image, axis=axis)).ravel() for axis in (0, 1)])
    return steps if steps.size else np.zeros(1, np.float32)
