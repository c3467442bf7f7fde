"""The built-in model x4-real, on the noisy photographs for which it was trained."""

from pathlib import Path

import numpy as np
from tiny import photograph

from caflow_runtime.judge.consistency import degrade
from caflow_runtime.pipeline.pipeline import load

SIDE, PHOTOGRAPHS = 128, 4
SIGMA = 8


def test_it_is_calibrated_and_closer_to_the_truth_of_noisy_photographs_than_x4_photo(photographs: Path) -> None:
    targets = [photograph(photographs, number, SIDE, SIDE) for number in range(PHOTOGRAPHS)]
    errors = {}
    for name in ("x4-photo", "x4-real"):
        rng = np.random.default_rng(0)
        with load(name, backend="cpu", threads=1) as pipe:
            assert pipe.calibration.photographs > 300
            clean = [degrade(pipe.manifest.model, target).astype(np.float64) for target in targets]
            noisy = [np.clip(np.rint(one + rng.normal(0, SIGMA, one.shape)), 0, 255).astype(np.uint8) for one in clean]
            results = pipe.best_of(noisy, n=1, temperature=0.8).images
        errors[name] = [
            float(np.square(np.subtract(a, b, dtype=np.float64)).mean()) for a, b in zip(results, targets, strict=True)
        ]
    assert all(real < 0.8 * photo for real, photo in zip(errors["x4-real"], errors["x4-photo"], strict=True)), errors
