"""The built-in model x4-real, on the noisy photographs for which it was trained."""

from pathlib import Path

import numpy as np
import pytest
from commands import caflow, messages
from PIL import Image
from tiny import photograph

from caflow_runtime.pipeline.pipeline import load

SIDE, PHOTOGRAPHS = 128, 4
WARNING = "the sample is untypical and contradicts the input"
SIGMA = 8


def test_it_is_calibrated_and_closer_to_the_truth_of_noisy_photographs_than_x4_photo(photographs: Path) -> None:
    """Both models draw at their default temperature, the one that users get."""
    targets = [photograph(photographs, number, SIDE, SIDE) for number in range(PHOTOGRAPHS)]
    errors = {}
    for name in ("x4-photo", "x4-real"):
        rng = np.random.default_rng(0)
        with load(name, backend="cpu", threads=1) as pipe:
            assert pipe.calibration.photographs > 300
            clean = [pipe.consistency.degraded(target).astype(np.float64) for target in targets]
            noisy = [np.clip(np.rint(one + rng.normal(0, SIGMA, one.shape)), 0, 255).astype(np.uint8) for one in clean]
            results = pipe.best_of(noisy, n=1).images
        errors[name] = [
            float(np.square(np.subtract(a, b, dtype=np.float64)).mean()) for a, b in zip(results, targets, strict=True)
        ]
    assert all(real < 0.8 * photo for real, photo in zip(errors["x4-real"], errors["x4-photo"], strict=True)), errors


@pytest.mark.parametrize(("model", "is_warned"), [("x4-photo", True), ("x4-real", False)])
def test_a_dithered_photograph_is_unknown_to_one(
    model: str, is_warned: bool, photographs: Path, tmp_path: Path
) -> None:
    small = Image.fromarray(photograph(photographs, 0, 48, 48))
    small.save(tmp_path / "clean.png")
    small.convert("1").save(tmp_path / "dithered.png")
    names = [tmp_path / f"{name}.png" for name in ("clean", "dithered")]
    done = caflow("image", *names, "-o", tmp_path / "out", "--model", model, "-n", 1, "--json", code=0)
    clean, dithered = done.stdout.splitlines()
    assert WARNING not in clean
    assert (WARNING in dithered) is is_warned
    warned = [line for line in messages(done.stderr) if WARNING in line]
    assert [names[1].name in line and "such as x4-real" in line for line in warned] == [True] * is_warned
