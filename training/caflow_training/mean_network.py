"""Mean network: a small convolutional network that predicts the target from the condition.

The network runs once per image, so it adds no cost per sample. The flow then models the difference between the target
and the prediction. For a given condition this is a shift, so the likelihood stays exact. The blocks of the flow may
also read the network's features, in addition to the latents D.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caflow_runtime.degradation import PARAMETERS
from caflow_training.dequantization import CELLS

EMBEDDING = 64
"""Number of values that embed a degradation."""


class ResidualBlock(nn.Module):
    """Residual block: x + convolution(ReLU(modulation(convolution(x)))), with 3×3 convolutions.

    The modulation scales and shifts each channel as a degradation requires (feature-wise linear modulation, Perez et
    al., "FiLM: Visual Reasoning with a General Conditioning Layer", 2018). Without a degradation it is the identity.

    Arguments:
        embedding: number of values that embed a degradation; 0 if the block is not told of degradations.
    """

    def __init__(self, width: int, embedding: int = 0) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = _zeroed(
            nn.Conv2d(width, width, 3, padding=1)
        )  # so that blocks added to a trained network keep it
        self.modulation = _zeroed(nn.Linear(embedding, 2 * width)) if embedding else None

    def forward(self, x: Tensor, embedded: Tensor | None = None) -> Tensor:
        hidden = self.first(x)
        if self.modulation is not None:
            scale, shift = self.modulation(embedded)[:, :, None, None].to(hidden.dtype).chunk(2, 1)
            hidden = hidden + scale * hidden + shift
        return x + cast(Tensor, self.second(F.relu(hidden)))


class MeanNetwork(nn.Module):
    """Residual blocks at the condition's resolution, then a convolution and a pixel shuffle to the target's resolution.

    The network predicts the difference between the target and the prepared condition. Initially the difference is 0.
    `dtype` is the type in which the convolutions compute; None means the input's type.

    Arguments:
        scale: sides of the target divided by those of the condition.
        blocks: number of residual blocks.
        width: channels of the residual blocks.
        feature_channels: channels of the features that `forward` returns for each level, coarsest first; empty for no
            features.
        is_told: whether `forward` gets the degradation of each condition.
    """

    def __init__(
        self,
        channels: int,
        scale: int,
        blocks: int,
        width: int,
        feature_channels: Sequence[int],
        is_told: bool = False,
    ) -> None:
        super().__init__()
        self.dtype: torch.dtype | None = None
        self.scale = scale
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.embedding = nn.Linear(len(PARAMETERS), EMBEDDING) if is_told else None
        self.blocks = nn.ModuleList(ResidualBlock(width, EMBEDDING if is_told else 0) for _ in range(blocks))
        self.last = nn.Conv2d(width, channels * scale**2, 3, padding=1)
        self.features = nn.ModuleList(nn.Conv2d(width, depth, 3, padding=1) for depth in feature_channels)
        _zeroed(self.last)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, condition: Tensor, degradation: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Predict the target from the condition.

        Arguments:
            condition: (B, C, h, w), pixel values 0…255.
            degradation: values of `PARAMETERS`, (B, 13), if the network is told of degradations.

        Returns: the difference between prediction and prepared condition, (B, C, H, W) in pixel values, with
            H = scale · h and W = scale · w; and the features of each level j,
            (B, feature_channels[j], H/2^(n−j+1), W/2^(n−j+1)). That is the resolution at which the blocks of level j
            run their networks.
        """
        x = (condition / CELLS - 0.5).to(self.first.weight.dtype)
        with torch.autocast(x.device.type, self.dtype) if self.dtype else nullcontext():
            trunk = self.first(x)
            embedded = None
            if self.embedding is not None and degradation is not None:
                embedded = F.relu(self.embedding(degradation.to(x.dtype)))
            for block in self.blocks:
                trunk = block(trunk, embedded)
            difference = F.pixel_shuffle(self.last(F.relu(trunk)), self.scale)
            count = len(self.features)
            features = [
                F.relu(layer(self._resampled(trunk, 2 ** (count - j + 1)))) for j, layer in enumerate(self.features)
            ]
        return CELLS * difference.to(condition.dtype), [level.to(condition.dtype) for level in features]

    def _resampled(self, trunk: Tensor, reduction: int) -> Tensor:
        """Resample `trunk` to the target's resolution divided by `reduction`."""
        if reduction < self.scale:
            return F.interpolate(trunk, scale_factor=self.scale // reduction, mode="nearest")
        factor = reduction // self.scale
        return F.avg_pool2d(trunk, factor) if factor > 1 else trunk


class UNet(nn.Module):
    """A mean network with a large receptive field: residual blocks at several resolutions, with skip connections.

    Each halving of the resolution is a convolution of 2×2 pixels, each doubling a pixel shuffle. There are more
    channels at lower resolutions, up to four times `width`. Arguments and results are those of `MeanNetwork`, of which
    conditions have the target's size. (Ronneberger et al., "U-Net", 2015)

    Arguments:
        depth: how often the resolution is halved.
    """

    def __init__(
        self,
        condition_channels: int,
        channels: int,
        depth: int,
        blocks: int,
        width: int,
        feature_channels: Sequence[int],
    ) -> None:
        super().__init__()
        self.dtype: torch.dtype | None = None
        widths = [width * min(level + 1, 4) for level in range(depth + 1)]
        steps = list(pairwise(widths))
        self.first = nn.Conv2d(condition_channels, width, 3, padding=1)
        self.encoders = nn.ModuleList(_blocks(blocks, wide) for wide in widths)
        self.reductions = nn.ModuleList(nn.Conv2d(wide, deeper, 2, stride=2) for wide, deeper in steps)
        self.enlargements = nn.ModuleList(nn.Conv2d(deeper, 4 * wide, 1) for wide, deeper in steps)
        self.decoders = nn.ModuleList(_blocks(blocks, wide) for wide in widths[:-1])
        self.last = _zeroed(nn.Conv2d(width, channels, 3, padding=1))
        count = len(feature_channels)
        self.features = nn.ModuleList(
            nn.Conv2d(widths[count - j + 1], wide, 3, padding=1) for j, wide in enumerate(feature_channels)
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, condition: Tensor, degradation: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Predict the target from the condition, (B, C, H, W), as `MeanNetwork` does. There is no degradation."""
        x = (condition / CELLS - 0.5).to(self.first.weight.dtype)
        with torch.autocast(x.device.type, self.dtype) if self.dtype else nullcontext():
            trunk = self.encoders[0](self.first(x))
            kept = [trunk]
            for reduction, encoder in zip(self.reductions, self.encoders[1:], strict=True):
                trunk = encoder(reduction(trunk))
                kept.append(trunk)
            for level in reversed(range(len(self.decoders))):
                kept[level] = self.decoders[level](kept[level] + F.pixel_shuffle(self.enlargements[level](trunk), 2))
                trunk = kept[level]
            difference, count = self.last(trunk), len(self.features)
            features = [F.relu(layer(kept[count - j + 1])) for j, layer in enumerate(self.features)]
        return CELLS * difference.to(condition.dtype), [level.to(condition.dtype) for level in features]


def _blocks(count: int, width: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))


def _zeroed(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """Set the weights of a layer to 0, so that its output is 0 when training starts."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(cast(Tensor, layer.bias))
    return layer
