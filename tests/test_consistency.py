"""Consistency: degrading a result as in training, and changing a result so that it matches its condition."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import photograph

from caflow_runtime.bundle.manifest import Model
from caflow_runtime.errors import InputError
from caflow_runtime.ood.consistency import EXACT, consistency, project, psnr, reduce
from caflow_training.tasks import Colorization, Inpainting, Sketch, SuperResolution


def model(task: str, scale: int = 1, **settings: Any) -> Model:
    return Model(task, settings, scale, 8, 2, 3, False, "unshared", [[48], [12]])


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("down_filter", ["bicubic", "bilinear"])
def test_reducing_equals_pytorchs_antialiased_interpolation(photographs: Path, scale: int, down_filter: str) -> None:
    image = photograph(photographs, 0, 64, 96)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].double()
    expected = F.interpolate(planes, (64 // scale, 96 // scale), mode=down_filter, antialias=True)
    error = reduce(image, scale, down_filter) - expected[0].permute(1, 2, 0).numpy()
    assert np.abs(error).max() < 1e-3


def test_the_truth_is_consistent_with_its_condition(photographs: Path) -> None:
    rng = np.random.default_rng(0)
    target = photograph(photographs, 1, 64, 64)
    for task, settings in (
        (SuperResolution(scale=4), {"down_filter": "bicubic"}),
        (Colorization(), {}),
        (Inpainting(mask="box"), {"mask": "box"}),
        (Sketch(), {"low_threshold": 100.0, "high_threshold": 200.0}),
    ):
        numbers = model(task.task, task.scale, **settings)
        condition = task.degrade(target, rng)
        # PyTorch rounds intermediate values when it reduces uint8, so that some values differ by one grey level.
        assert consistency(numbers, target, condition) >= (50 if task.scale > 1 else EXACT)
        assert consistency(numbers, np.roll(target, 5, 0), condition) < 30


def test_a_projected_image_reduces_to_its_condition(photographs: Path) -> None:
    numbers = model("super-resolution", 4, down_filter="bicubic")
    target = photograph(photographs, 2, 96, 64)
    condition = SuperResolution(scale=4).degrade(target, np.random.default_rng(0))
    noisy = target + np.random.default_rng(1).normal(0, 20, target.shape).astype(np.float32) + np.float32(0.5)
    assert consistency(numbers, np.clip(noisy, 0, 255).astype(np.uint8), condition) < 40
    projected = project(numbers, noisy.astype(np.float32), condition)
    assert consistency(numbers, projected, condition) > 50
    assert psnr(projected, target) > psnr(np.clip(noisy - 0.5, 0, 255), target)


def test_a_task_without_a_known_degradation_is_refused() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(InputError, match=r"'image-to-image' does not define .* calibrate with pairs"):
        consistency(model("image-to-image"), image, image)


def test_black_text_on_white_can_be_made_consistent() -> None:
    """Black text on white is clipped at both ends of the range, where the first steps change little."""
    numbers = model("super-resolution", 4, down_filter="bicubic")
    target = np.full((96, 192, 3), 255, np.uint8)
    cv2.putText(target, "Text", (5, 80), cv2.FONT_HERSHEY_SIMPLEX, 2.5, (0, 0, 0), 6, cv2.LINE_AA)
    condition = SuperResolution(scale=4).degrade(target, np.random.default_rng(0))
    blurred = cv2.GaussianBlur(target, (0, 0), 3).astype(np.float32) + np.float32(0.5)
    assert consistency(numbers, project(numbers, blurred, condition), condition) > 50
