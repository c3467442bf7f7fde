"""Calibration of a bundle: measures true images and samples, and learns the typical values of their likelihoods."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_deploy.images.photographs import Pair
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest import Model, cell_side
from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.errors import InputError, NotFinite
from caflow_runtime.image_arrays import Image
from caflow_runtime.ood.calibration import FORMAT, FORMAT_VERSION, Calibration, Canary
from caflow_runtime.ood.coverage import QUANTITIES, Coverage, quantity_of, rank_of
from caflow_runtime.ood.learning import MIN_PAIRS, learn, learnable_kinds
from caflow_runtime.ood.typicality import Floats, covariates
from caflow_runtime.pipeline.canary import canary_log_likelihood
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import Likelihood

FOLDS = 50
SAMPLES = 19
"""Number of samples of each condition. If their spread is right, 90 % of true values lie between the lowest and the
highest sample."""


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
        coverage=measure_coverage(pipe, list(survey.smallest.values()), seed=seed) if measures_coverage else [],
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


def measure_coverage(pipe: Pipeline, pairs: Sequence[Pair], temperature: float = 1.0, seed: int = 0) -> list[Coverage]:
    """Return the coverage of each level and quantity, level by level.

    For each level, one block of each pair is compared with the same block of the samples. A pair is skipped at the
    levels whose blocks do not fit into it, and a level that no pair fits is left out.

    Arguments:
        seed: determines the noise of the samples and the positions of the blocks.

    Raises:
        NotFinite: if a sample is not finite.
    """
    model, rng = pipe.manifest.model, np.random.default_rng(seed)
    sides = [cell_side(model, f"decode_{j}") for j in range(model.levels)]
    counts = np.zeros((model.levels, len(QUANTITIES), SAMPLES + 1), np.int64)
    for k, pair in enumerate(pairs):
        drawn = pipe.sample(pair.condition, n=SAMPLES, temperature=temperature, seed=(seed + k) % 2**32)
        greys = np.stack([_grey(image) for image in (pair.target, *drawn.images[0])])
        for j, side in enumerate(sides):
            if min(greys.shape[1:]) < sides[max(j - 1, 0)]:  # the mean is compared with a block of twice the side
                continue
            block = (int(rng.integers(greys.shape[1] // side)), int(rng.integers(greys.shape[2] // side)))
            for q, quantity in enumerate(QUANTITIES):
                truth, *samples = quantity_of(greys, quantity, side, j == 0, block)
                counts[j, q, rank_of(truth, np.array(samples), rng)] += 1
    return [
        Coverage(j, quantity, temperature, counts[j, q].tolist())
        for j in range(model.levels)
        for q, quantity in enumerate(QUANTITIES)
        if counts[j, q].any()
    ]


def _grey(image: Image) -> Floats:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float64)
