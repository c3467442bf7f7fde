"""Degraded conditions in training, and models that are told how their condition was degraded, or estimate it."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import small_model
from test_objective import batch_of
from test_trainer import log_of, short_recipe
from tiny import photograph

from caflow_runtime.degradation import PARAMETERS, Codec, Degradation
from caflow_runtime.ood.consistency import psnr
from caflow_training import checkpoint
from caflow_training.crop_sampler import TRAINING_STREAM, CropSampler
from caflow_training.degradations import Degradations, MissingPackage
from caflow_training.model import CAFlow
from caflow_training.objective import Objective
from caflow_training.photographs import find_photographs
from caflow_training.recipe import TrainingConfig, recipe_from_dict
from caflow_training.start import start_from
from caflow_training.task_traits import Image
from caflow_training.tasks import SuperResolution
from caflow_training.trainer import train

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


def degraded(window: Image, **settings: Any) -> tuple[Image, Degradation]:
    """Degrade a window of a photograph by these degradations alone."""
    return Degradations(clean_share=0.0, **settings).degrade(window, 4, np.random.default_rng(0))


@pytest.fixture
def window(photographs: Path) -> Image:
    return photograph(photographs, 3, 192, 192)


def test_a_condition_is_a_function_of_seed_step_and_row(photographs: Path) -> None:
    first, again = (crops(photographs, **EVERYTHING) for _ in range(2))
    whole, part = first.batch(7, range(12)), again.batch(7, range(4, 8))
    for tensor, same in zip(whole, part, strict=True):
        assert tensor[4:8].equal(same)
    assert not first.batch(8, range(12)).conditions.equal(whole.conditions)


@pytest.mark.parametrize("clean_share", [1.0, 0.0])
def test_conditions_are_those_of_the_task_and_aligned_with_their_targets(photographs: Path, clean_share: float) -> None:
    """A condition of a clean crop is exact. With only the task's own filter, it is cut from a reduced window.

    That differs at the border, where the filter sees pixels of the window that are outside the target.
    """
    batch = crops(photographs, clean_share=clean_share).batch(0, range(16))
    border, tolerance = (0, 0) if clean_share else (3, 1)
    inside = (slice(border, 16 - border), slice(border, 16 - border))
    for target, condition in zip(batch.targets.numpy(), batch.conditions.numpy(), strict=True):
        expected = SuperResolution().degrade(target.transpose(1, 2, 0), np.random.default_rng(0))
        found = condition.transpose(1, 2, 0).astype(int)
        np.testing.assert_allclose(found[inside], expected[inside], rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_each_degradation_costs_quality(name: str, window: Image) -> None:
    clean = SuperResolution().degrade(window, np.random.default_rng(0))
    found, degradation = degraded(window, **ONE_BY_ONE[name])
    assert found.shape == clean.shape
    assert found.dtype == np.uint8
    assert 18 < psnr(found, clean) < 33
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


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_videos_keep_the_brightness(codec: Codec, window: Image) -> None:
    clean = SuperResolution().degrade(window, np.random.default_rng(0)).astype(float)
    coded, _ = degraded(window, video_share=1.0, video_crf=(1, 1), codecs=(codec,))
    assert np.abs((coded - clean).mean((0, 1))).max() < 0.5  # of 255, in each channel


def test_noise_has_the_requested_standard_deviation(window: Image) -> None:
    noisy, _ = degraded(np.full_like(window, 128), noise_share=1.0, noise_sigma=(8.0, 8.0))
    assert noisy.astype(float).std() == pytest.approx(8, rel=0.05)


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


ESTIMATING: dict[str, Any] = {"mean_blocks": 2, "mean_width": 4, "mean_features": 2, "degradation_aware": True}


def aware_model(dtype: torch.dtype = torch.float64, **changes: Any) -> Any:
    """Return a small model whose modulations are not the identity."""
    model: Any = small_model(dtype, **{"task": SuperResolution(), "residual": True, **ESTIMATING, **changes})
    for block in model.mean_network.blocks:
        for layer in (block.second, block.modulation):
            torch.nn.init.normal_(layer.weight, std=0.3)
    torch.nn.init.normal_(model.mean_network.last.weight, std=0.1)
    return model


def test_by_default_the_degradation_is_estimated() -> None:
    model, condition = aware_model(), torch.randint(0, 256, (2, 3, 8, 12)).double()
    with torch.no_grad():
        estimated = model.degradation_estimator(condition).clamp(0, 1)
        assert estimated.shape == (2, len(PARAMETERS))
        by_default, told = model.encode(condition), model.encode(condition, degradation=estimated)
        blurred = torch.from_numpy(Degradation(blur_sigma=3.0).vector()).double().expand(2, -1)
        other = model.encode(condition, degradation=blurred)
    assert torch.equal(by_default.mean, told.mean)
    assert not torch.equal(by_default.mean, other.mean)
    assert not torch.equal(by_default.features[0], other.features[0])


def test_the_estimator_learns_from_its_own_error_alone() -> None:
    model, batch = aware_model(torch.float32), batch_of()
    config = TrainingConfig(likelihood_weight=0.01, mean_weight=1.0, still_weight=1.0, known_share=0.0)
    terms = Objective(model, config)(batch)
    terms["loss"].backward()
    assert all(not weight.grad.any() for weight in model.degradation_estimator.parameters() if weight.grad is not None)
    assert terms["degradation"] > 0
    terms = Objective(model, TrainingConfig(likelihood_weight=0.0, mean_weight=1.0, degradation_weight=1.0))(batch)
    terms["loss"].backward()
    assert all(
        weight.grad is not None and weight.grad.any() for weight in model.degradation_estimator.last.parameters()
    )


def test_the_estimator_is_trained_alone_and_the_next_stage_goes_on_from_it(photographs: Path, tmp_path: Path) -> None:
    """The estimator's stage passes on the mean network that it starts from."""
    degraded = {"clean_share": 0.2, "blur_share": 0.5, "noise_share": 0.5, "jpeg_share": 0.5}
    recipe = short_recipe(
        **ESTIMATING, likelihood_weight=0.0, degradation_weight=1.0, learning_rate=2e-3, steps=40, **degraded
    )
    torch.manual_seed(1)
    earlier = CAFlow(recipe.model)
    torch.nn.init.normal_(earlier.mean_network.last.weight)  # type: ignore[union-attr]
    checkpoint.save(tmp_path / "earlier.pt", earlier, training={"flow_is_trained": False})
    path = train(recipe, photographs, tmp_path / "run", start=[tmp_path / "earlier.pt"])
    errors = [line["degradation"] for line in log_of(tmp_path / "run") if "degradation" in line]
    assert sum(errors[-10:]) < 0.8 * sum(errors[:10])
    model = CAFlow(recipe.model)
    start_from(model, [path], lambda _: None)
    for name, weight in earlier.mean_network.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(model.state_dict()[f"mean_network.{name}"], weight)
