"""Measurement of coverage: ranks of true images among samples of their conditions.

The ranks tell whether samples vary as much as they should. `calibrate` stores them in the calibration.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from caflow_runtime.bundle.manifest import cell_side
from caflow_runtime.image_arrays import Image
from caflow_runtime.jobs.photographs import Pair
from caflow_runtime.ood.coverage import QUANTITIES, Coverage, Floats, quantity_of, rank_of
from caflow_runtime.pipeline.pipeline import Pipeline

SAMPLES = 19
"""Number of samples of each condition. If their spread is right, 90 % of true values lie between the lowest and the
highest sample."""


def measure(pipe: Pipeline, pairs: Sequence[Pair], temperature: float = 1.0, seed: int = 0) -> list[Coverage]:
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
