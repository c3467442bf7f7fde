"""Which likelihoods are typical of a bundle's model: `calibration.json`, which `caflow calibrate` writes into it.

A high likelihood alone says little: smooth images have a higher one than detailed ones, and foreign images may have a
higher one than any photograph (Nalisnick et al., "Do deep generative models know what they don't know?", 2019). So bits
per dimension, level by level, are held against what images of that size with conditions of that complexity have, in
both directions; the distance becomes a p-value by ranking it among those of calibration images (conformal prediction:
Vovk et al., "Algorithmic learning in a random world", 2005). Of images like those, a share α has a typicality below α.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest import Strict
from caflow_runtime.bundle.reading import read_manifest, sha256_of
from caflow_runtime.bundle.wrong_bundle import BundleError
from caflow_runtime.checks import check_share
from caflow_runtime.errors import InputError
from caflow_runtime.image import Image
from caflow_runtime.judge.reference import COMPLEXITIES, LINEAR, Count, Fit, Number, Reference
from caflow_runtime.seal import is_sealed, sealed
from caflow_runtime.strict_json import WrongJson, read_json
from caflow_runtime.whole_files import remove_leftovers, write_whole

NAME = "calibration.json"
FORMAT = "caflow-calibration"
FORMAT_VERSION = 1
SAME_TEMPERATURE = 1e-6
USUAL = 2.58
"""Standard deviations that 1 in 100 normal values exceeds."""
Floats = NDArray[np.float64]


class WrongCalibration(BundleError):
    """`calibration.json` is not one that this version can use, or belongs to another bundle."""


class Canary(Strict, frozen=True):
    """The log-likelihood of a sample that every backend draws alike."""

    backend: str
    log_likelihood: Number
    """Not 0: differences are relative to it."""

    def __post_init__(self) -> None:
        if not self.log_likelihood:
            raise ValueError("wanted a log_likelihood other than 0")


class Calibration(Strict, frozen=True):
    """`calibration.json`."""

    format: str
    format_version: int
    manifest_sha256: str
    """Of the bundle that it is of."""
    photographs: Count
    truth: Reference
    samples: list[Reference]
    canary: Canary
    sha256: str = ""
    """Of all other fields (`seal`)."""

    def __post_init__(self) -> None:
        temperatures = [reference.temperature for reference in self.samples]
        if self.truth.temperature is not None or None in temperatures or len(set(temperatures)) < len(temperatures):
            raise ValueError(f"wanted truth without a temperature, samples of different ones, got {temperatures}")
        if any(reference.levels != self.truth.levels for reference in self.samples):
            raise ValueError(f"wanted samples of {self.truth.levels} levels, as truth has")
        if any(self.photographs > reference.images for reference in (self.truth, *self.samples)):
            raise ValueError(f"wanted at least one image of each of {self.photographs} photographs")

    def reference(self, temperature: float | None) -> Reference:
        """Of samples at a temperature, or of true images.

        Raises:
            InputError: if that temperature was not calibrated.
        """
        if temperature is None:
            return self.truth
        for reference in self.samples:
            assert reference.temperature is not None
            if abs(reference.temperature - temperature) < SAME_TEMPERATURE:
                return reference
        known = ", ".join(f"{reference.temperature:g}" for reference in self.samples)
        raise InputError(
            f"typicality: wanted a temperature that the bundle is calibrated for ({known}), got {temperature:g}: "
            "take one of them, or run caflow calibrate with it"
        )


@dataclass(frozen=True)
class Typicality:
    """How typical images are. Of R images and n levels; further axes as in the results that it is of."""

    value: Floats
    """(R,) 0…1: the share of calibration images that are no more typical."""
    per_level: Floats
    """(R, n) the same of each level by itself, in both directions."""
    residuals: Floats
    """(R, n) bits/dim above what is expected, in standard deviations: negative is likelier than it should be."""

    def accept(self, alpha: float = 0.01) -> NDArray[np.bool_]:
        """(R,): False for a share `alpha` of images like those of calibration.

        Arguments:
            alpha: 0…1; 0 accepts all.

        Raises:
            InputError
        """
        check_share("alpha", alpha)
        return np.asarray(self.value >= alpha)

    def reshape(self, *shape: int) -> "Typicality":
        """The same with R as several axes."""
        return Typicality(
            self.value.reshape(shape), self.per_level.reshape(*shape, -1), self.residuals.reshape(*shape, -1)
        )


def read_calibration(folder: Path) -> Calibration | None:
    """That of a bundle; None where it has none.

    Raises:
        WrongCalibration
    """
    path = folder / NAME
    if not path.is_file():
        return None
    again = "run caflow calibrate again"
    try:
        found = read_json(path, Calibration)
    except WrongJson as error:
        raise WrongCalibration(f"{path}: {error}", again) from None
    if (found.format, found.format_version) != (FORMAT, FORMAT_VERSION):
        raise WrongCalibration(
            f"{path}: wanted format {FORMAT!r} version {FORMAT_VERSION}, got {found.format!r} version "
            f"{found.format_version}",
            again,
        )
    if not is_sealed(found):
        raise WrongCalibration(f"{path} is not what was written: its numbers were changed", again)
    if found.manifest_sha256 != sha256_of(folder / MANIFEST):
        raise WrongCalibration(f"{path} was made for another manifest than the one beside it", again)
    if found.truth.levels != (levels := read_manifest(folder).model.levels):
        raise WrongCalibration(f"{path}: wanted {levels} levels, as the model has, got {found.truth.levels}", again)
    return found


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Into a bundle, whole or not at all: what was there before stays until the new one can take its place.

    Raises:
        WrongCalibration: if it could not be read again.
        OSError
    """
    content = msgspec.json.encode(sealed(calibration))
    try:
        msgspec.json.decode(content, type=Calibration)
    except msgspec.ValidationError as error:
        raise WrongCalibration(f"the likelihoods of these images give no usable calibration: {error}") from None
    write_whole(folder / NAME, msgspec.json.format(content, indent=0))
    remove_leftovers([folder / NAME])


def covariates(condition: Image, scale: int) -> Floats:
    """(4,): three measures of a condition's complexity, and the size of its target, all as base-2 logarithms.

    Of the absolute differences d of neighbouring pixels: log₂(1 + mean d) of grey and of what each colour has over it,
    and the mean of log₂(1 + d) of grey, which tells a few sharp edges from much fine detail; the size is in pixels.
    """
    grey = cv2.cvtColor(condition, cv2.COLOR_RGB2GRAY).astype(np.float32)
    steps, colour_steps = _steps(grey), _steps(condition - grey[..., None])
    complexity = [np.log2(1 + steps.mean()), np.log2(1 + colour_steps.mean()), np.log2(1 + steps).mean()]
    return np.array([*complexity, math.log2(grey.size * scale**2)], np.float64)


def typicality(reference: Reference, bits_per_level: Floats, given: Floats) -> Typicality:
    """Of images with so many bits per dimension in each level, (R, n), and those covariates, (R, 4)."""
    residuals = standardized(bits_per_level, given, reference)
    distance = mahalanobis(residuals, np.array(reference.precision))
    above = 1 - rank(distance, reference.distances)
    count = reference.images
    below = np.stack([rank(r, known) for r, known in zip(residuals.T, reference.residuals, strict=True)], 1)
    return Typicality(
        value=(1 + count * above) / (count + 1),
        per_level=np.minimum(1.0, (2 + 2 * count * np.minimum(below, 1 - below)) / (count + 1)),
        residuals=residuals,
    )


def check_alpha(alpha: float, reference: Reference) -> None:
    """Whether anything can be of less typicality.

    Raises:
        InputError
    """
    if not reference.smallest < alpha < 1:
        raise InputError(
            f"α = {alpha:g}: calibrated with {reference.images} images, wanted more than {reference.smallest:.2g} and "
            "less than 1: take a larger one, or calibrate with more photographs"
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


def standardized(bits_per_level: Floats, given: Floats, fit: Fit) -> Floats:
    """(R, n) residuals."""
    bounded = np.clip(given, fit.lowest, fit.highest)
    x = basis((bounded - fit.centre) / fit.scale)
    mean, log_spread = np.array(fit.mean), np.array(fit.log_spread)
    residuals: Floats = (bits_per_level - x @ mean.T) / np.exp(x[:, :LINEAR] @ log_spread.T)
    return residuals


def basis(given: Floats) -> Floats:
    """(R, 4) covariates to the (R, 11) that are fitted: 1, all of them, and the products of the complexities."""
    products = [given[:, i] * given[:, j] for i, j in combinations_with_replacement(range(COMPLEXITIES), 2)]
    return np.column_stack([np.ones(len(given)), given, *products])


def _steps(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Absolute differences of neighbours, down and across; 0 where there are none."""
    steps = np.concatenate([np.abs(np.diff(image, axis=axis)).ravel() for axis in (0, 1)])
    return steps if steps.size else np.zeros(1, np.float32)


def mahalanobis(residuals: Floats, precision: Floats) -> Floats:
    """(R,) distances from 0."""
    squares = np.einsum("ri,ij,rj->r", residuals, precision, residuals)
    return np.asarray(np.sqrt(np.maximum(squares, 0)))  # rounding may leave one just below 0


def rank(values: Floats, quantiles: Sequence[float]) -> Floats:
    """(R,) share of the distribution with these quantiles that is below each value."""
    return np.asarray(np.interp(values, quantiles, np.linspace(0, 1, len(quantiles)), left=0.0, right=1.0))


def reason(levels: Any) -> str:
    """What is untypical of one image whose residuals are `levels`, (n,), for people."""
    level = int(np.argmax(np.abs(levels)))
    if abs(levels[level]) < USUAL:
        return f"the levels do not fit together: {', '.join(f'{value:+.1f}' for value in levels)} standard deviations"
    direction = "less likely" if levels[level] > 0 else "likelier"
    return f"level {level} is {direction} than is typical: {abs(levels[level]):.1f} standard deviations"
