"""Calibration of a bundle: measures true images and samples, and learns the typical values of their likelihoods."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest import Model
from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.errors import InputError, NotFinite
from caflow_runtime.health.canary import canary_log_likelihood
from caflow_runtime.jobs import coverage
from caflow_runtime.jobs.photographs import Pair
from caflow_runtime.ood.calibration import FORMAT, FORMAT_VERSION, Calibration, Canary
from caflow_runtime.ood.learning import MIN_PAIRS, learn, learnable_kinds
from caflow_runtime.ood.typicality import Floats, covariates
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import Likelihood

SIDES = (64, 128, 256)
TEMPERATURES = (0.0, 0.5, 0.7, 0.8, 0.9, 1.0)
FOLDS = 50


class Survey:
    """All crops, before anything is computed from them: what a calibration is learned from, besides the measures."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.names: list[str] = []
        """The photograph of each crop."""
        self.covariates: list[Floats] = []
        self.smallest: dict[str, Pair] = {}
        """The smallest pair of each photograph. Coverage is measured with them."""

    def add(self, pair: Pair) -> None:
        """Add a crop."""
        self.names.append(pair.photograph)
        self.covariates.append(covariates(pair.condition, self.model))
        known = self.smallest.get(pair.photograph, pair)
        self.smallest[pair.photograph] = min(known, pair, key=lambda one: one.target.size)

    def check(self) -> None:
        """Check that there are enough crops of one kind, coloured or grey.

        Raises:
            InputError: if the check fails.
        """
        photographs = len(set(self.names))
        if photographs < 2 or not np.any(learnable_kinds(np.array(self.covariates))):
            raise InputError(
                f"expected at least {MIN_PAIRS} coloured or {MIN_PAIRS} grey crops of at least 2 photographs; "
                f"got {len(self.names)} crops of {photographs}. A reliable calibration requires some hundred "
                "photographs"
            )


def measure_crops(
    pipe: Pipeline, pairs: Iterable[Pair], temperatures: Sequence[float], seed: int
) -> list[list[list[float]]]:
    """Return the measures of each true image, and of one sample of its condition at each of the temperatures.

    Arguments:
        seed: seed of the first pair's samples. Each further pair has the next one.

    Raises:
        NotFinite: if a sample, or the likelihood of a true image, is not finite.
    """
    measures = []
    for k, pair in enumerate(pairs):
        try:
            measures.append([_measures(pipe, pair, kind, (seed + k) % 2**32) for kind in (None, *temperatures)])
        except NotFinite as error:
            raise NotFinite(f"{pair.photograph}: {error}; remove this photograph") from None
    return measures


def learn_calibration(
    pipe: Pipeline,
    survey: Survey,
    measures: Sequence[list[list[float]]],
    temperatures: Sequence[float],
    seed: int = 0,
    measures_coverage: bool = True,
) -> Calibration:
    """Return the calibration that is learned from the measures of all crops (`measure_crops`).

    Coverage is measured with the smallest pair of each photograph. Images of a kind, coloured or grey, are left out if
    there are fewer than `MIN_PAIRS` of them.

    Raises:
        InputError: if the measures give no usable calibration.
        NotFinite: if a sample is not finite.
    """
    given = np.array(survey.covariates)
    learnable, fold = _folds(survey.names, given)
    try:
        learnt = [
            learn(kind, np.array(measured), given, fold, survey.model.levels)
            for kind, measured in zip([None, *temperatures], zip(*measures, strict=True), strict=True)
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
        coverage=coverage.measure(pipe, list(survey.smallest.values()), seed=seed) if measures_coverage else [],
        canary=canary,
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


def _measures(pipe: Pipeline, pair: Pair, temperature: float | None, seed: int) -> list[float]:
    """Return the measures of the true image; or, with a temperature, of one sample of its condition."""
    if temperature is None:
        scored: Likelihood = pipe.score(pair.target, pair.condition)
    else:
        scored = pipe.best_of(pair.condition, n=1, temperature=temperature, seed=seed)
    measures: list[float] = scored.measures[0].tolist()
    return measures
