"""The canary: one made-up sample whose log-likelihood tells an engine that computes something else than it should."""

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.pipeline.pipeline import Pipeline

TEMPERATURE = 0.8
SIDE_IN_MULTIPLES = 4


def canary_log_likelihood(pipe: Pipeline) -> float:
    """Nats of a sample that every backend draws alike.

    Raises:
        NotFinite
    """
    model = pipe.manifest.model
    side = SIDE_IN_MULTIPLES * model.size_multiple // model.scale
    (condition,) = smooth_conditions(1, side, side)
    return float(pipe.best_of(condition, n=1, temperature=TEMPERATURE).log_likelihood[0])


def canary_difference(pipe: Pipeline) -> float:
    """Nats above what it was at calibration.

    Raises:
        InputError: if the bundle is not calibrated.
        NotFinite
    """
    known = pipe.calibration.canary.log_likelihood
    return canary_log_likelihood(pipe) - known


def smooth_conditions(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Random images, smooth as photographs are, (count, height, width, 3)."""
    coarse = np.random.default_rng(0).uniform(0, 255, (count, 5, 5, 3)).astype(np.float32)
    large = [cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in coarse]
    return np.asarray(np.clip(large, 0, 255), np.uint8)
