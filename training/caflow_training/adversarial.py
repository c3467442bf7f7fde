"""Adversarial training: a discriminator learns to tell samples from targets, and the model learns to mislead it.

The discriminator is a U-Net with spectral normalization, which judges each pixel (after Real-ESRGAN, arXiv:2107.10833).
The losses are relativistic averages: is this pixel more real than the mean of the other images (ESRGAN,
arXiv:1809.00219)?
"""

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import spectral_norm

from caflow_training.dequantization import CELLS
from caflow_training.recipe import TrainingConfig

WIDTH = 48
"""Channels of the discriminator at full and at half resolution. There are twice as many below."""
LEARNING_RATE = 2e-4
BETAS = (0.5, 0.99)
"""Decays of the moments of the discriminator's Adam."""


class Discriminator(nn.Module):
    """U-Net that returns a value for each pixel, (B, 1, H, W): the higher, the more real it looks.

    Arguments:
        dtype: type in which the convolutions compute; None means the type of the images.
    """

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.dtype = dtype
        wide = 2 * WIDTH
        self.first = _convolution(3, WIDTH)
        self.down = nn.ModuleList([_halving(WIDTH, WIDTH), _halving(WIDTH, wide), _halving(wide, wide)])
        self.up = nn.ModuleList([_convolution(2 * wide, WIDTH), _convolution(wide, WIDTH), _convolution(wide, WIDTH)])
        self.last = _convolution(WIDTH, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Judge images, (B, 3, H, W) in pixel values."""
        with torch.autocast(images.device.type, self.dtype) if self.dtype else nullcontext():
            features = [_activated(self.first(images / (CELLS / 2) - 1))]
            for layer in self.down:
                features.append(_activated(layer(features[-1])))
            inner = features.pop()
            for layer in self.up:
                outer = features.pop()
                enlarged = F.interpolate(inner, outer.shape[-2:], mode="bilinear")
                inner = _activated(layer(torch.cat([enlarged, outer], 1)))
            values: Tensor = self.last(inner)
        return values.to(images.dtype)

    def losses(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return two losses, scalars, for images and their targets, both (B, 3, H, W) in pixel values.

        Returns: the loss of the discriminator, whose gradient reaches the discriminator alone, and the loss of the
            images, whose gradient reaches the images alone. The latter is low if the discriminator is misled.
        """
        imitated, real = self(torch.cat([images.detach(), targets])).chunk(2)
        frozen = {name: weight.detach() for name, weight in self.named_parameters()}
        of_images = _error(functional_call(self, frozen, (images,)), real.detach())
        return _error(real, imitated), of_images


def _convolution(inputs: int, outputs: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(inputs, outputs, 3, padding=1))


def _halving(inputs: int, outputs: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(inputs, outputs, 4, stride=2, padding=2))


def _activated(values: Tensor) -> Tensor:
    return F.leaky_relu(values, 0.2)


def _error(higher: Tensor, lower: Tensor) -> Tensor:
    """Return the loss of values that should be higher than the mean of others, and of others that should be lower."""
    return (F.softplus(lower.mean() - higher).mean() + F.softplus(lower - higher.mean()).mean()) / 2


def adversarial_share(step: int, config: TrainingConfig) -> float:
    """Return the factor on `adversarial_weight` at a step, counted from 0: 0 before the start, then rising to 1."""
    since = step - config.adversarial_start + 1
    return min(1.0, max(0.0, since / max(1, config.adversarial_ramp)))


class Adversary:
    """Discriminator with its optimizer: the state of adversarial training beside the model."""

    def __init__(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        self.discriminator = Discriminator(dtype).to(device)
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), LEARNING_RATE, BETAS, fused=True)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint stores, so that training can be resumed."""
        return {"weights": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Load what `state` has returned. It must fit."""
        self.discriminator.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
