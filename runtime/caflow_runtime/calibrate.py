"""Learning what is typical: scores of true pairs, and likelihoods of samples, to a `Calibration`."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from caflow_runtime.bundle import MANIFEST, Model, sha256_of
from caflow_runtime.calibration import (
    FORMAT,
    FORMAT_VERSION,
    Calibration,
    Canary,
    Floats,
    Reference,
    basis,
    covariates,
    mahalanobis,
    standardized,
)
from caflow_runtime.canary import canary_log_likelihood
from caflow_runtime.consistency import degrade
from caflow_runtime.errors import InputError, UnreadableImage
from caflow_runtime.images import SUFFIXES, read_image
from caflow_runtime.inputs import Image
from caflow_runtime.pipeline import Pipeline
from caflow_runtime.results import Likelihood

SIDES = (64, 128, 256)
TEMPERATURES = (0.0, 0.5, 0.7, 0.8, 0.9, 1.0)
FEWEST_PAIRS = 20
"""Fewer cannot tell 1 in 20 from none."""
FOLDS = 5
QUANTILES = 1001
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


def find_pairs(folder: Path, model: Model, sides: Sequence[int], skip: Callable[[str], None]) -> Iterator[Pair]:
    """Crops of the photographs in a folder and below, one of each size that fits, their conditions made by the task.

    A folder with `A` (conditions) and `B` (targets) in it holds pairs, as in training, which are taken as they are.

    Arguments:
        sides: of targets, in pixels; brought to multiples of the model's.
        skip: is told what cannot be read, or is too small.

    Raises:
        InputError: if there is nothing, or the task does not say how conditions are made.
    """
    if (folder / "A").is_dir() and (folder / "B").is_dir():
        yield from _given_pairs(folder, skip)
        return
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"{folder}: wanted photographs ({', '.join(sorted(SUFFIXES))}), found none")
    multiple = model.size_multiple
    wanted = sorted({max(multiple, side // multiple * multiple) for side in sides})
    for path in paths:
        try:
            photograph = read_image(path).rgb
        except UnreadableImage as error:
            skip(str(error))
            continue
        name = str(path.relative_to(folder))
        fitting = [side for side in wanted if side <= min(photograph.shape[:2])]
        if not fitting:
            skip(f"{path}: smaller than {wanted[0]}×{wanted[0]} pixels")
        for side in fitting:
            target = _crop(photograph, side, f"{name} {side}")
            yield Pair(name, target, degrade(model, target))


def calibrate(
    pipe: Pipeline,
    pairs: Sequence[Pair],
    temperatures: Sequence[float] = TEMPERATURES,
    seed: int = 0,
    show: Callable[[int, int], None] | None = None,
) -> Calibration:
    """What is typical of true images like those of `pairs`, and of samples of their conditions.

    Arguments:
        show: is given how many runs over pairs are done, and how many there are.

    Raises:
        InputError: if there are too few pairs.
        NotFinite: if the model cannot score one of them.
    """
    photographs = sorted({pair.photograph for pair in pairs})
    if len(pairs) < FEWEST_PAIRS or len(photographs) < 2:
        raise InputError(
            f"wanted at least {FEWEST_PAIRS} crops of at least 2 photographs, got {len(pairs)} of {len(photographs)}: "
            "some hundred photographs give a dependable calibration"
        )
    scale, model = pipe.manifest.model.scale, pipe.manifest.model
    given = np.stack([covariates(pair.condition, scale) for pair in pairs])
    fold = np.array([photographs.index(pair.photograph) % FOLDS for pair in pairs])
    learnt: list[Reference] = []
    kinds: list[float | None] = [None, *temperatures]
    for kind in kinds:
        bits = np.empty((len(pairs), model.levels))
        for k, pair in enumerate(pairs):
            bits[k] = _bits(pipe, pair, kind, (seed + k) % 2**32)
            if show:
                show(len(learnt) * len(pairs) + k + 1, len(kinds) * len(pairs))
        learnt.append(learn(kind, bits, given, fold))
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
    """A reference from bits per dimension, (R, n), covariates, (R, 2), and the fold of each image.

    The quantiles are of residuals whose images the fit did not see, fold by fold, so they are as large as those of new
    images: the split of conformal prediction, but with every image in use.
    """
    whole = _fit(temperature, bits, given)
    residuals, distances = np.empty_like(bits), np.empty(len(bits))
    for k in np.unique(fold):
        held_out = fold == k
        part = _fit(temperature, bits[~held_out], given[~held_out])
        residuals[held_out] = standardized(bits[held_out], given[held_out], part)
        distances[held_out] = mahalanobis(residuals[held_out], np.array(part.precision))
    return replace(
        whole,
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


def _fit(temperature: float | None, bits: Floats, given: Floats) -> Reference:
    """Least squares of bits, then of the logarithm of what is left."""
    x = basis(given)
    mean = np.linalg.lstsq(x, bits, rcond=None)[0].T
    left = np.maximum(np.abs(bits - x @ mean.T), SMALLEST_RESIDUAL)
    log_spread = np.linalg.lstsq(x, np.log(left) - MEAN_LOG_OF_NORMAL, rcond=None)[0].T
    fitted = Reference(
        temperature=temperature,
        images=len(bits),
        lowest=given.min(0).tolist(),
        highest=given.max(0).tolist(),
        mean=mean.tolist(),
        log_spread=log_spread.tolist(),
        precision=[],
        distances=[],
        residuals=[],
        bits_per_dim=[],
        bits_per_dim_per_level=[],
    )
    residuals = standardized(bits, given, fitted)
    return replace(fitted, precision=np.linalg.pinv(residuals.T @ residuals / len(residuals)).tolist())


def _quantiles(values: Floats) -> list[float]:
    count = min(QUANTILES, len(values))
    return [float(f"{value:.{DIGITS}g}") for value in np.quantile(values, np.linspace(0, 1, count))]


def _crop(photograph: Image, side: int, name: str) -> Image:
    """A square at a place that the name chooses."""
    digest = hashlib.sha256(name.encode()).digest()
    top, left = (
        int.from_bytes(digest[start : start + 4], "little") % (length - side + 1)
        for start, length in zip((0, 4), photograph.shape[:2], strict=True)
    )
    return np.ascontiguousarray(photograph[top : top + side, left : left + side])


def _given_pairs(folder: Path, skip: Callable[[str], None]) -> Iterator[Pair]:
    for path in sorted(path for path in (folder / "B").rglob("*") if path.suffix.lower() in SUFFIXES):
        name = path.relative_to(folder / "B")
        try:
            yield Pair(str(name), read_image(path).rgb, read_image(folder / "A" / name).rgb)
        except UnreadableImage as error:
            skip(str(error))
