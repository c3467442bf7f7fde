"""Calibration of a bundle: measures true images and samples, and learns the typical values of their likelihoods."""

from collections.abc import Iterable, Sequence

import numpy as np

from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.errors import InputError, NotFinite
from caflow_runtime.health.canary import canary_log_likelihood
from caflow_runtime.jobs import coverage
from caflow_runtime.jobs.photographs import Pair
from caflow_runtime.judge.calibration import FORMAT, FORMAT_VERSION, Calibration, Canary
from caflow_runtime.judge.learning import FEWEST_PAIRS, learn
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
    measured with the smallest pair of each photograph.

    Raises:
        InputError: if there are too few pairs, or their measures give no usable calibration.
        NotFinite: if a sample, or the likelihood of a true image, is not finite.
    """
    model, kinds = pipe.manifest.model, [None, *temperatures]
    names, given = [], []
    small: dict[str, Pair] = {}
    measures: list[list[Floats]] = [[] for _ in kinds]
    for k, pair in enumerate(pairs):
        names.append(pair.photograph)
        given.append(covariates(pair.condition, model.scale))
        known = small.get(pair.photograph, pair)
        small[pair.photograph] = min(known, pair, key=lambda one: one.target.size)
        try:
            for kind, so_far in zip(kinds, measures, strict=True):
                so_far.append(_measures(pipe, pair, kind, (seed + k) % 2**32))
        except NotFinite as error:
            raise NotFinite(f"{pair.photograph}: {error}; remove this photograph") from None
    photographs = sorted(set(names))
    if len(names) < FEWEST_PAIRS or len(photographs) < 2:
        raise InputError(
            f"expected at least {FEWEST_PAIRS} crops of at least 2 photographs; got {len(names)} crops of "
            f"{len(photographs)}. A reliable calibration requires some hundred photographs"
        )
    fold = np.array([photographs.index(name) % FOLDS for name in names])
    try:
        learnt = [
            learn(kind, np.array(measured), np.array(given), fold, model.levels)
            for kind, measured in zip(kinds, measures, strict=True)
        ]
    except ValueError as error:
        raise InputError(f"these images give no usable calibration: {error}; use other photographs") from None
    return Calibration(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        manifest_sha256=sha256_of(pipe.folder / MANIFEST),
        photographs=len(photographs),
        truth=learnt[0],
        samples=learnt[1:],
        coverage=coverage.measure(pipe, list(small.values()), seed=seed) if measures_coverage else [],
        canary=Canary(pipe.backend, canary_log_likelihood(pipe)),
    )


def _measures(pipe: Pipeline, pair: Pair, temperature: float | None, seed: int) -> Floats:
    """Return the measures, (M,), of the true image; or, with a temperature, of one sample of its condition."""
    if temperature is None:
        scored: Likelihood = pipe.score(pair.target, pair.condition)
    else:
        scored = pipe.best_of(pair.condition, n=1, temperature=temperature, seed=seed)
    measures: Floats = scored.measures[0]
    return measures
