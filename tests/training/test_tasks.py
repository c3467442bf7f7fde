"""Tasks: how conditions are made from targets and prepared for the model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import planes

from caflow_training.photographs import read_rgb
from caflow_training.task_traits import Image
from caflow_training.tasks import Colorization, DegradingTask, ImageToImage, Inpainting, Sketch, SuperResolution

DEGRADING: list[DegradingTask] = [
    SuperResolution(scale=2),
    SuperResolution(scale=4, up_filter="nearest"),
    SuperResolution(scale=8, down_filter="bilinear", up_filter="bilinear"),
    Colorization(),
    Inpainting(),
    Sketch(),
]


@pytest.fixture
def photograph(photographs: Path) -> Image:
    return read_rgb(photographs / "roman-colosseum.jpg")[:64, :96]


@pytest.mark.parametrize("task", DEGRADING, ids=repr)
def test_conditions_fit_the_target_and_are_integers(task: DegradingTask, photograph: Image) -> None:
    condition = task.degrade(photograph, np.random.default_rng(0))
    assert condition.dtype == np.uint8
    assert condition.shape == (64 // task.scale, 96 // task.scale, 3)
    prepared = task.prepare(planes(condition).float())
    assert prepared.shape == (1, 3, 64, 96)
    assert torch.equal(prepared, prepared.round())
    assert prepared.min() >= 0
    assert prepared.max() <= 255
    if task.scale == 1:
        assert torch.equal(task.prepare(prepared), prepared)


def test_the_central_hole_is_the_public_implementations(photograph: Image) -> None:
    condition = Inpainting(mask_area=0.15).degrade(photograph[:64, :64], np.random.default_rng(0))
    expected = photograph[:64, :64].copy()
    expected[20:44, 20:44] = 0
    np.testing.assert_array_equal(condition, expected)


def test_image_to_image_rounds_to_integers() -> None:
    values = torch.tensor([-1.0, 0.4, 254.6, 300.0])[None, None, None].expand(1, 3, 1, 4)
    assert ImageToImage().prepare(values)[0, 0, 0].tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("area", [0.05, 0.15, 0.5, 0.9])
def test_the_central_hole_is_the_same_in_numbers_and_in_tensors(area: float) -> None:
    """NumPy draws the hole in training data, and a graph draws it in conditions."""
    task = Inpainting(mask_area=area)
    for height in range(1, 90, 7):
        for width in (1, 16, 48, 80, 97):
            white = np.full((height, width, 3), 255, np.uint8)
            condition = task.degrade(white, np.random.default_rng(0))
            np.testing.assert_array_equal(task.prepare(planes(white).float()), planes(condition))
