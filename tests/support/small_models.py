"""Small models in PyTorch with random weights."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from caflow_runtime.flow.noise import NoiseWindow, draw_window_noise
from caflow_training.config import CAFlowConfig
from caflow_training.model import CAFlow
from caflow_training.tasks import SuperResolution

_ONE_LEVEL: dict[str, Any] = {"levels": 1, "target_steps": 1, "own_steps": 1, "residual": True}
MEAN: dict[str, Any] = {"residual": True, "mean_blocks": 1, "mean_width": 8, "mean_features": 4}
LEAST = {**_ONE_LEVEL, "task": SuperResolution(scale=2)}
COMPLETING = {**_ONE_LEVEL, **MEAN, "mean_depth": 2, "mean_width": 4}
OURS = {**_ONE_LEVEL, **MEAN, "levels": 2, "log_scale_bound": 1.0, "dequantization_steps": 1, "task": SuperResolution()}


def torch_noise(
    noise_channels: list[list[int]], height: int, width: int, samples: NDArray[np.int64], seed: int
) -> dict[tuple[int, int], torch.Tensor]:
    """Return the runtime's noise in the form that `CAFlow.sample` expects: one tensor for each block (i, j)."""
    blocks: dict[tuple[int, int], torch.Tensor] = {}
    for j, channels in enumerate(noise_channels):
        cell = 2 ** (len(noise_channels) - j + 1)
        z = torch.from_numpy(
            draw_window_noise(channels, j, NoiseWindow(0, 0, height // cell, width // cell, tuple(samples)), seed)
        )
        blocks |= {(j + k, j): part for k, part in enumerate(z.split(channels, 1))}
    return blocks


def planes(image: NDArray[np.uint8], rows: int = 1) -> torch.Tensor:
    """Return an image as the model reads it, as many times as there are rows."""
    return torch.from_numpy(image).permute(2, 0, 1)[None].expand(rows, -1, -1, -1)


def stir(module: torch.nn.Module, amount: float = 0.1) -> None:
    """Add noise to every parameter. New layers are the identity, which would hide errors."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(amount * torch.randn_like(parameter))


def log_density_by_autograd(model: CAFlow, target: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    """Return log p of a target for a model with one level, from autograd's Jacobian of pixels → z."""

    def z_of(x: torch.Tensor) -> torch.Tensor:
        z = model.encode_target(x.reshape(target.shape), model.encode(condition))
        return torch.cat([values.flatten() for values in z.values()])

    jacobian = torch.autograd.functional.jacobian(z_of, target.flatten())
    z: torch.Tensor = z_of(target.flatten())
    log_density: torch.Tensor = (
        torch.linalg.slogdet(jacobian).logabsdet - 0.5 * (z.square() + math.log(2 * math.pi)).sum()
    )
    return log_density


def small_model(dtype: torch.dtype = torch.float64, **changes: object) -> CAFlow:
    """Return a model with few parameters, all of them moved away from their initial values."""
    small = {
        "levels": 3,
        "condition_steps": 1,
        "target_steps": 2,
        "own_steps": 2,
        "cross_steps": 1,
        "image_width": 8,
        "conditional_width": 8,
    }
    model = CAFlow(CAFlowConfig(**{**small, **changes}))  # type: ignore[arg-type]
    stir(model, 0.02)
    return model.to(dtype).eval()
