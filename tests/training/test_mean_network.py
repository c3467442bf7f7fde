"""The mean network: its input, its output before training, and the flow as a model of the residual."""

from typing import Any

import pytest
import torch
from small_models import small_model
from torch import Tensor

from caflow_training.config import ConfigError, config_from_dict
from caflow_training.tasks import Colorization, Inpainting, SuperResolution, Task

SCALES: list[Task] = [Colorization(), SuperResolution(scale=2), SuperResolution(scale=4), SuperResolution(scale=8)]
WITH_MEAN: dict[str, Any] = {"residual": True, "mean_blocks": 1, "mean_width": 8, "mean_features": 4}


def conditions(task: Task, rows: int = 2, height: int = 32, width: int = 48) -> Tensor:
    return torch.randint(0, 256, (rows, 3, height // task.scale, width // task.scale)).double()


@pytest.mark.parametrize("task", SCALES, ids=lambda task: f"x{task.scale}")
def test_samples_know_their_density_at_every_scale(task: Task) -> None:
    model = small_model(task=task, **WITH_MEAN)
    condition = conditions(task)
    with torch.no_grad():
        sample = model.sample(condition, temperature=0.8)
        density = model.log_density(sample.images, condition)
        encoded = model.encode(condition)
        back = model.decode(model.encode_target(sample.images, encoded), encoded).images
    torch.testing.assert_close(density.per_level, sample.log_likelihood.per_level, rtol=1e-10, atol=1e-6)
    torch.testing.assert_close(back, sample.images, rtol=0, atol=1e-8)


def test_the_target_is_modelled_as_a_residual_to_the_mean() -> None:
    """Adding 3 to the mean adds 3 to samples and does not change their density."""
    task = SuperResolution(scale=4)
    model = small_model(task=task, residual=True, mean_blocks=1)
    condition = conditions(task)
    noise = model.draw_noise(2, 32, 48)
    with torch.no_grad():
        before = model.sample(condition, noise)
        assert model.mean_network is not None
        model.mean_network.last.bias.add_(3 / 256)  # type: ignore[union-attr]
        after = model.sample(condition, noise)
    torch.testing.assert_close(after.images, before.images + 3, rtol=0, atol=1e-9)
    torch.testing.assert_close(after.log_likelihood.total, before.log_likelihood.total, rtol=1e-12, atol=0)


@pytest.mark.parametrize("task", [Colorization(), Inpainting()], ids=lambda task: task.task)
def test_the_mean_sees_no_more_than_the_prepared_condition(task: Task) -> None:
    """The mean network must not see the colours of an image to be colorized, or the pixels inside the hole."""
    model = small_model(task=task, **WITH_MEAN)
    image = conditions(task)
    with torch.no_grad():
        given, prepared = model.encode(image), model.encode(task.prepare(image))
    assert given.mean is not None
    assert prepared.mean is not None
    torch.testing.assert_close(given.mean, prepared.mean, rtol=0, atol=0)


def test_contradictory_settings_of_the_mean_network_are_refused() -> None:
    with pytest.raises(ConfigError, match="mean_blocks above 0 requires residual = true"):
        config_from_dict({"mean_blocks": 2})
    with pytest.raises(ConfigError, match="mean_features above 0 requires a mean network"):
        config_from_dict({"residual": True, "mean_features": 4})
    with pytest.raises(ConfigError, match="log_scale_bound"):
        config_from_dict({"log_scale_bound": 3.0})
