"""The small demo models for colorization and inpainting, trained for minutes: they have learned their tasks."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tiny import photograph

from caflow_runtime.pipeline.pipeline import load

SIDE, SAMPLES = 64, 8

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def targets(photographs: Path) -> NDArray[np.uint8]:
    """Reduced photographs, (13, 64, 64, 3)."""
    large = [photograph(photographs, number, 4 * SIDE, 4 * SIDE) for number in range(13)]
    return np.stack([cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in large]).astype(np.uint8)


def luma(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    weighted: NDArray[np.float64] = images.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return weighted


def test_colorization_keeps_the_luma_and_knows_colours(targets: NDArray[np.uint8]) -> None:
    grey = np.repeat(np.rint(luma(targets))[..., None], 3, 3).astype(np.uint8)
    with load("colorization-demo", backend="cpu") as pipe:
        images = np.asarray(pipe.sample(grey, n=SAMPLES, temperature=0.8).images)
        off = np.abs(luma(images) - luma(grey)[:, None]).mean()
        colour = np.ptp(images.astype(np.float64), axis=4).mean()
        assert off < 4.0
        assert colour > 2.0
        truth, swapped = pipe.score(targets, grey), pipe.score(np.ascontiguousarray(targets[..., ::-1]), grey)
    assert (truth.bits_per_dim < swapped.bits_per_dim).mean() > 0.9


def test_inpainting_keeps_what_is_there_and_fills_the_hole(targets: NDArray[np.uint8]) -> None:
    hole = np.zeros((SIDE, SIDE), bool)
    hole[34:56, 6:30] = True
    given = np.where(hole[..., None], np.uint8(0), targets)
    with load("inpainting-demo", backend="cpu") as pipe:
        filled = np.asarray(pipe.best_of(given, n=SAMPLES, temperature=0.8).images)
        noise = np.random.default_rng(0).integers(0, 256, targets.shape, np.uint8)
        truth, noisy = pipe.score(targets, given), pipe.score(np.where(hole[..., None], noise, targets), given)
    off = np.abs(filled.astype(np.float64) - targets).mean(3)
    assert off[:, ~hole].mean() < 3.0
    assert off[:, hole].mean() < 0.5 * targets[:, hole].mean()
    assert (truth.bits_per_dim < noisy.bits_per_dim).all()
