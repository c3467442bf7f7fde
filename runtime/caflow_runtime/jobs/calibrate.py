"""Calibration of a bundle: measures true images and samples, and learns the typical values of their likelihoods."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.errors import InputError, NotFinite
from caflow_runtime.health.canary import canary_log_likelihood
from caflow_runtime.jobs import coverage
from caflow_runtime.jobs.photographs import Pair
from caflow_runtime.judge.calibration import FORMAT, FORMAT_VERSION, Calibration, Canary
from caflow_runtime.judge.learning import FEWEST_PAIRS, learn, learnable_kinds
from caflow_runtime.judge.typicality import Floats, covariates
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import Likelihood

SIDES = (64, 128, 256)
TEMPERATURES = (0.0, 0.5, 0.7, 0.8, 0.9, 1.0)
FOLDS = 50


def calibrate(
    pipe: Pipeline,
    pairs: Iterable[Pair],
    temperatures: Sequence[float] = TEMPERATURES,
    seed: int = 0,
    measures_coverage: bool = True,
) -> Calibration:
    """Return a calibration that is learned from true images and from samples of their conditions.

    Every true image is scored, and one sample of its condition is drawn at each of the temperatures. Coverage is
    measured with the smallest pair of each photograph. Images of a kind, coloured or grey, are left out if there are
    fewer than `FEWEST_PAIRS` of them. Nothing is drawn before there are enough images of one kind.

    Raises:
        InputError: if there are too few pairs, a temperature is given twice, or the measures of the pairs give no
            usable calibration.
        NotFinite: if a sample, or the likelihood of a true image, is not finite.
    """
    if len(set(temperatures)) < len(temperatures):
        raise InputError(f"temperatures must be different numbers; got {list(temperatures)}")
    model, kinds = pipe.manifest.model, [None, *temperatures]
    names, given = [], []
    small: dict[str, Pair] = {}
    measures: list[list[Floats]] = [[] for _ in kinds]
    with_covariates = ((pair, covariates(pair.condition, model)) for pair in pairs)
    for k, (pair, of_pair) in enumerate(_once_enough(with_covariates)):
        names.append(pair.photograph)
        given.append(of_pair)
        known = small.get(pair.photograph, pair)
        small[pair.photograph] = min(known, pair, key=lambda one: one.target.size)
        try:
            for kind, so_far in zip(kinds, measures, strict=True):
                so_far.append(_measures(pipe, pair, kind, (seed + k) % 2**32))
        except NotFinite as error:
            raise NotFinite(f"{pair.photograph}: {error}; remove this photograph") from None
    if len(set(names)) < 2:
        raise _too_few(names)
    learnable, fold = _folds(names, np.array(given))
    try:
        learnt = [
            learn(kind, np.array(measured), np.array(given), fold, model.levels)
            for kind, measured in zip(kinds, measures, strict=True)
        ]
        canary = Canary(pipe.backend, canary_log_likelihood(pipe))
    except ValueError as error:
        raise InputError(f"these images give no usable calibration: {error}; use other photographs") from None
    return Calibration(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        manifest_sha256=sha256_of(pipe.folder / MANIFEST),
        photographs=learnable,
        truth=learnt[0],
        samples=learnt[1:],
        coverage=coverage.measure(pipe, list(small.values()), seed=seed) if measures_coverage else [],
        canary=canary,
    )


def _once_enough(pairs: Iterator[tuple[Pair, Floats]]) -> Iterator[tuple[Pair, Floats]]:
    """Yield pairs with their covariates, (4,). The first pairs are held until there are enough of one kind.

    Raises:
        InputError: before the first pair, if there are never enough.
    """
    held: list[tuple[Pair, Floats]] = []
    for one in pairs:
        held.append(one)
        if np.any(learnable_kinds(np.array([given for _, given in held]))):
            break
    else:
        raise _too_few([pair.photograph for pair, _ in held])
    yield from held
    yield from pairs


def _too_few(names: Sequence[str]) -> InputError:
    """Return the error for too few pairs. `names` are their photographs."""
    return InputError(
        f"expected at least {FEWEST_PAIRS} coloured or {FEWEST_PAIRS} grey crops of at least 2 photographs; got "
        f"{len(names)} crops of {len(set(names))}. A reliable calibration requires some hundred photographs"
    )


def _folds(names: Sequence[str], given: Floats) -> tuple[int, NDArray[np.int64]]:
    """Return the number of photographs that something is learned from, and the fold, (R,), of each of R images.

    A photograph counts only if one of its images is of a kind that has enough images.

    Arguments:
        names: the photograph of each image.
        given: (R, 4) covariates.
    """
    is_learnable = np.logical_or.reduce(learnable_kinds(given))
    photographs = sorted({name for name, counts in zip(names, is_learnable, strict=True) if counts})
    fold = {name: k % FOLDS for k, name in enumerate(photographs)}
    return len(photographs), np.array([fold.get(name, 0) for name in names])


def _measures(pipe: Pipeline, pair: Pair, temperature: float | None, seed: int) -> Floats:
    """Return the measures, (M,), of the true image; or, with a temperature, of one sample of its condition."""
    if temperature is None:
        scored: Likelihood = pipe.score(pair.target, pair.condition)
    else:
        scored = pipe.best_of(pair.condition, n=1, temperature=temperature, seed=seed)
    measures: Floats = scored.measures[0]
    return measures
