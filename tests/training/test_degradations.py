"""Degraded conditions in training: reproducible for a seed, step and row, and with the effects of each degradation."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import photograph

from caflow_runtime.degradation import PARAMETERS, Degradation
from caflow_runtime.ood.consistency import psnr
from caflow_training.crop_sampler import TRAINING_STREAM, CropSampler
from caflow_training.degradations import Degradations, MissingPackage
from caflow_training.photographs import find_photographs
from caflow_training.recipe import recipe_from_dict
from caflow_training.task_traits import Image
from caflow_training.tasks import SuperResolution

EVERYTHING: dict[str, Any] = {
    "clean_share": 0.2,
    "reductions": ("bicubic", "bilinear", "lanczos", "area"),
    "blur_share": 0.5,
    "noise_share": 0.5,
    "noises": ("gaussian", "grey", "poisson", "speckle"),
    "jpeg_share": 0.4,
    "video_share": 0.4,
    "codecs": ("h264", "hevc"),
    "dither_share": 0.2,
}
ONE_BY_ONE: dict[str, dict[str, Any]] = {
    "blur": {"blur_share": 1.0, "blur_sigma": (3.0, 3.0)},
    "gaussian noise": {"noise_share": 1.0, "noise_sigma": (10.0, 10.0)},
    "grey noise": {"noise_share": 1.0, "noise_sigma": (10.0, 10.0), "noises": ("grey",)},
    "poisson noise": {"noise_share": 1.0, "noise_sigma": (10.0, 10.0), "noises": ("poisson",)},
    "speckle": {"noise_share": 1.0, "noise_sigma": (10.0, 10.0), "noises": ("speckle",)},
    "jpeg": {"jpeg_share": 1.0, "jpeg_quality": (20, 20)},
    "h264": {"video_share": 1.0, "video_crf": (35, 35)},
    "hevc": {"video_share": 1.0, "video_crf": (35, 35), "codecs": ("hevc",)},
    "ordered dithering": {"dither_share": 1.0, "dither_bits": (3, 3), "dithers": ("ordered",)},
    "diffused dithering": {"dither_share": 1.0, "dither_bits": (3, 3), "dithers": ("diffused",)},
}


def crops(folder: Path, **degradations: Any) -> CropSampler:
    recipe = recipe_from_dict({"crop": 64, "crop_scales": [1.0, 0.5], "levels": 2, **degradations})
    found = find_photographs(folder, recipe.model.task, 64)
    return CropSampler(found, recipe.model.task, recipe.training, TRAINING_STREAM, recipe.degradations)


@pytest.fixture
def window(photographs: Path) -> Image:
    return photograph(photographs, 3, 192, 192)


def test_a_condition_is_a_function_of_seed_step_and_row(photographs: Path) -> None:
    first, again = (crops(photographs, **EVERYTHING) for _ in range(2))
    whole, part = first.batch(7, range(12)), again.batch(7, range(4, 8))
    for tensor, same in zip(whole, part, strict=True):
        assert tensor[4:8].equal(same)
    assert not first.batch(8, range(12)).conditions.equal(whole.conditions)


def test_clean_crops_are_those_of_the_task(photographs: Path) -> None:
    batch = crops(photographs).batch(0, range(4))
    for target, condition in zip(batch.targets.numpy(), batch.conditions.numpy(), strict=True):
        expected = SuperResolution().degrade(target.transpose(1, 2, 0), np.random.default_rng(0))
        np.testing.assert_array_equal(condition.transpose(1, 2, 0), expected)


def test_conditions_are_aligned_with_their_targets(photographs: Path) -> None:
    """With only the task's own filter, a condition that is cut from a reduced window equals the reduced target.

    They differ at the border, where the filter sees pixels of the window that are outside the target.
    """
    batch = crops(photographs, clean_share=0.0).batch(0, range(16))
    for target, condition in zip(batch.targets.numpy(), batch.conditions.numpy(), strict=True):
        expected = SuperResolution().degrade(target.transpose(1, 2, 0), np.random.default_rng(0))
        inside = (slice(3, -3), slice(3, -3))
        np.testing.assert_allclose(condition.transpose(1, 2, 0)[inside].astype(int), expected[inside], atol=1)


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_each_degradation_costs_quality(name: str, window: Image) -> None:
    rng = np.random.default_rng(0)
    clean = SuperResolution().degrade(window, rng)
    degraded, degradation = Degradations(clean_share=0.0, **ONE_BY_ONE[name]).degrade(window, 4, rng)
    assert degraded.shape == clean.shape
    assert degraded.dtype == np.uint8
    assert 18 < psnr(degraded, clean) < 33
    assert degradation.vector().any(), "the vector says nothing of the degradation"


def test_the_vector_names_each_degradation_with_its_strength() -> None:
    assert not Degradation().vector().any()
    degradation = Degradation(blur_sigma=2, noise="grey", noise_sigma=6, jpeg_quality=65, reduction="area")
    assert dict(zip(PARAMETERS, degradation.vector().tolist(), strict=True)) == dict.fromkeys(PARAMETERS, 0.0) | {
        "blur": 0.5,
        "grey noise": 0.5,
        "jpeg": 0.5,
        "area": 1.0,
    }
    coded = Degradation(codec="hevc", crf=16, dither="ordered", dither_bits=1).vector()
    assert dict(zip(PARAMETERS, coded.tolist(), strict=True)) == dict.fromkeys(PARAMETERS, 0.0) | {
        "hevc": 0.5,
        "ordered dithering": 1.0,
    }


def test_noise_has_the_requested_standard_deviation(window: Image) -> None:
    grey = np.full_like(window, 128)
    degraded, _ = Degradations(clean_share=0.0, noise_share=1.0, noise_sigma=(8.0, 8.0)).degrade(
        grey, 4, np.random.default_rng(0)
    )
    assert degraded.astype(float).std() == pytest.approx(8, rel=0.05)


def test_videos_require_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    Degradations(clean_share=0.0).check_packages()
    with pytest.raises(MissingPackage, match=r"pip install 'caflow-deploy\[video\]'"):
        Degradations(clean_share=0.0, video_share=0.5).check_packages()


def test_patterns_have_two_colours_and_whole_pixels(photographs: Path) -> None:
    """Their conditions have the same colours: neither blur nor reduction mixes cells, in clean crops and in others."""
    batch = crops(photographs, clean_share=0.5, blur_share=1.0, pattern_share=1.0).batch(0, range(8))
    for target, condition in zip(batch.targets.numpy(), batch.conditions.numpy(), strict=True):
        assert len(np.unique(target.reshape(3, -1), axis=1).T) <= 2
        np.testing.assert_array_equal(target, condition.repeat(4, 1).repeat(4, 2))
    assert len(np.unique(batch.targets.numpy())) > 8
    some = crops(photographs, pattern_share=0.5).batch(0, range(16)).targets.numpy()
    assert 3 < sum(len(np.unique(target.reshape(3, -1), axis=1).T) <= 2 for target in some) < 13
