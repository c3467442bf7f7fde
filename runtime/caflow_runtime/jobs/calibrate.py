"""Learning what is typical: scores of true pairs, and likelihoods of samples, to a `Calibration`."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from msgspec.structs import asdict
from numpy.typing import NDArray

from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest import Model
from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.errors import InputError, NotFinite, UnreadableImage
from caflow_runtime.health.canary import canary_log_likelihood
from caflow_runtime.image import Image, check_pair
from caflow_runtime.image_formats import MAX_PIXELS, SUFFIXES, images_below
from caflow_runtime.judge.calibration import (
    FORMAT,
    FORMAT_VERSION,
    Calibration,
    Canary,
    Floats,
    basis,
    covariates,
    mahalanobis,
    standardized,
)
from caflow_runtime.judge.consistency import degrade
from caflow_runtime.judge.reference import LINEAR, QUANTILES, SMALLEST_SCALE, Fit, Reference
from caflow_runtime.pictures.image_files import read_image
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import Likelihood

SIDES = (64, 128, 256)
TEMPERATURES = (0.0, 0.5, 0.7, 0.8, 0.9, 1.0)
CROPS = 4
"""Of each size."""
FEWEST_PAIRS = 20
"""Fewer cannot tell 1 in 20 from none."""
FOLDS = 50
OUTLYING = 0.05
"""Share of the images, on either side, whose covariates count as the nearest of the others: curves end wildly."""
RIDGE = 0.01
"""Of the mean square of each covariate: some are nearly sums of others."""
DIGITS = 5
MEAN_LOG_OF_NORMAL = -0.635
"""E ln|x|, x ~ N(0, 1)."""
SMALLEST_RESIDUAL = 1e-6
"""Bits/dim: samples at τ = 0 of images alike differ by less."""


@dataclass(frozen=True)
class Pair:
    """A true image with its condition."""

    photograph: str
    """Pairs of one photograph are alike, so they are kept together."""
    target: Image
    condition: Image


def photographs_in(folder: Path) -> list[Path]:
    """The photographs in a folder and below; or, where it holds pairs as in training, the targets in `B`.

    Raises:
        InputError: if there are none.
        OSError: if a folder cannot be read.
    """
    root = folder / "B" if _holds_pairs(folder) else folder
    paths = images_below(root)
    if not paths:
        raise InputError(f"{root}: wanted photographs ({', '.join(sorted(SUFFIXES))}), found none")
    return paths


def pairs_of(path: Path, folder: Path, model: Model, sides: Sequence[int], max_pixels: int = MAX_PIXELS) -> list[Pair]:
    """Square crops of a photograph, of each size that fits, if any, at several scales; their conditions are made as the
    task says.

    Where `folder` holds pairs, the whole target and its condition, of the same name in `A`.

    Arguments:
        sides: of targets, in pixels; brought to multiples of the model's.
        max_pixels: of each file, as in `read_image`.

    Raises:
        UnreadableImage: also if a given pair's sizes do not fit.
        InputError: if the task does not say how conditions are made.
    """
    image = read_image(path, max_pixels).rgb
    if _holds_pairs(folder):
        name = path.relative_to(folder / "B")
        condition = read_image(folder / "A" / name, max_pixels).rgb
        try:
            check_pair(str(path), image, condition, model.scale)
        except InputError as error:
            raise UnreadableImage(str(error)) from None
        return [Pair(str(name), image, condition)]
    name, multiple = path.relative_to(folder), model.size_multiple
    wanted = sorted({max(multiple, side // multiple * multiple) for side in sides})
    fitting = [side for side in wanted if side <= min(image.shape[:2])]
    crops = [_crop(image, side, f"{name} {side} {k}") for side in fitting for k in range(CROPS)]
    return [Pair(str(name), crop, degrade(model, crop)) for crop in crops]


def calibrate(
    pipe: Pipeline, pairs: Iterable[Pair], temperatures: Sequence[float] = TEMPERATURES, seed: int = 0
) -> Calibration:
    """What is typical of true images like those of `pairs`, and of samples of their conditions.

    Raises:
        InputError: if there are too few pairs.
        NotFinite: if the model cannot score one of them.
    """
    kinds: list[float | None] = [None, *temperatures]
    names, given, bits = [], [], []
    for k, pair in enumerate(pairs):
        names.append(pair.photograph)
        given.append(covariates(pair.condition, pipe.manifest.model.scale))
        try:
            bits.append([_bits(pipe, pair, kind, (seed + k) % 2**32) for kind in kinds])
        except NotFinite as error:
            raise NotFinite(f"{pair.photograph}: {error}: leave it out") from None
    photographs = sorted(set(names))
    if len(names) < FEWEST_PAIRS or len(photographs) < 2:
        raise InputError(
            f"wanted at least {FEWEST_PAIRS} crops of at least 2 photographs, got {len(names)} of {len(photographs)}: "
            "some hundred photographs give a dependable calibration"
        )
    fold = np.array([photographs.index(name) % FOLDS for name in names])
    try:
        learnt = [learn(kind, np.array(bits)[:, k], np.array(given), fold) for k, kind in enumerate(kinds)]
    except ValueError as error:
        raise InputError(f"these images give no usable calibration: {error}: use other photographs") from None
    return Calibration(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        manifest_sha256=sha256_of(pipe.folder / MANIFEST),
        photographs=len(photographs),
        truth=learnt[0],
        samples=learnt[1:],
        canary=Canary(pipe.backend, canary_log_likelihood(pipe)),
    )


def learn(temperature: float | None, bits: Floats, given: Floats, fold: NDArray[np.int64]) -> Reference:
    """A reference from bits per dimension, (R, n), covariates, (R, 4), and the fold of each image.

    The quantiles are of residuals whose images the fit did not see, fold by fold, so they are as large as those of new
    images: the split of conformal prediction, but with every image in use.
    """
    residuals, distances = np.empty_like(bits), np.empty(len(bits))
    for k in np.unique(fold):
        held_out = fold == k
        part = _fit(bits[~held_out], given[~held_out])
        residuals[held_out] = standardized(bits[held_out], given[held_out], part)
        seen = standardized(bits[~held_out], given[~held_out], part)
        distances[held_out] = mahalanobis(residuals[held_out], _precision(seen))
    whole = _fit(bits, given)
    return Reference(
        **asdict(whole),
        temperature=temperature,
        images=len(bits),
        precision=_precision(standardized(bits, given, whole)).tolist(),
        distances=_quantiles(distances),
        residuals=[_quantiles(level) for level in residuals.T],
        bits_per_dim=_quantiles(bits.sum(1)),
        bits_per_dim_per_level=[_quantiles(level) for level in bits.T],
    )


def _bits(pipe: Pipeline, pair: Pair, temperature: float | None, seed: int) -> Floats:
    """(n,) bits per dimension of the true image, or of a sample."""
    if temperature is None:
        scored: Likelihood = pipe.score(pair.target, pair.condition)
    else:
        scored = pipe.best_of(pair.condition, n=1, temperature=temperature, seed=seed)
    bits: Floats = scored.bits_per_dim_per_level[0]
    return bits


def _fit(bits: Floats, given: Floats) -> Fit:
    """Least squares, ridged, of bits, then of the logarithm of what is left."""
    lowest, highest = np.quantile(given, (OUTLYING, 1 - OUTLYING), axis=0)
    bounded = np.clip(given, lowest, highest)
    centre, scale = bounded.mean(0), np.maximum(bounded.std(0), SMALLEST_SCALE)
    x = basis((bounded - centre) / scale)
    mean = _ridge(x, bits)
    left = np.maximum(np.abs(bits - x @ mean.T), SMALLEST_RESIDUAL)
    return Fit(
        lowest=lowest.tolist(),
        highest=highest.tolist(),
        centre=centre.tolist(),
        scale=scale.tolist(),
        mean=mean.tolist(),
        log_spread=_ridge(x[:, :LINEAR], np.log(left) - MEAN_LOG_OF_NORMAL).tolist(),
    )


def _precision(residuals: Floats) -> Floats:
    """(n, n) inverse covariance of (R, n) residuals around 0."""
    return np.asarray(np.linalg.pinv(residuals.T @ residuals / len(residuals)))


def _ridge(x: Floats, values: Floats) -> Floats:
    """(n, k) coefficients of (R, k) covariates, the first of them 1, for (R, n) values."""
    penalty = RIDGE * len(x) * np.eye(x.shape[1])
    penalty[0, 0] = 0
    return np.asarray(np.linalg.solve(x.T @ x + penalty, x.T @ values).T)


def _quantiles(values: Floats) -> list[float]:
    count = min(QUANTILES, len(values))
    return [float(f"{value:.{DIGITS}g}") for value in np.quantile(values, np.linspace(0, 1, count))]


def _crop(photograph: Image, side: int, name: str) -> Image:
    """A square of the photograph, reduced before by a factor that leaves it large enough; the name chooses both.

    Reduced, a photograph is sharp and free of its coding's faults, as small images mostly are.
    """
    digest = hashlib.sha256(name.encode()).digest()
    at_top, at_left, at_scale = (int.from_bytes(digest[k : k + 4], "little") / 2**32 for k in (0, 4, 8))
    reduction = (side / min(photograph.shape[:2])) ** at_scale
    height, width = (max(side, round(reduction * length)) for length in photograph.shape[:2])
    reduced = np.asarray(cv2.resize(photograph, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    top, left = int(at_top * (height - side + 1)), int(at_left * (width - side + 1))
    return np.ascontiguousarray(reduced[top : top + side, left : left + side])


def _holds_pairs(folder: Path) -> bool:
    return (folder / "A").is_dir() and (folder / "B").is_dir()
