"""Mean network: a small convolutional network that predicts the target from the condition.

The network runs once per image, so it adds no cost per sample. The flow then models the difference between the target
and the prediction. For a given condition this is a shift, so the likelihood stays exact. The blocks of the flow may
also read the network's features, in addition to the latents D.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caflow_training.dequantization import CELLS


class ResidualBlock(nn.Module):
    """Residual block: x + convolution(ReLU(convolution(x))), with 3×3 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.second(F.relu(self.first(x))))


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
    """

    def __init__(self, channels: int, scale: int, blocks: int, width: int, feature_channels: Sequence[int]) -> None:
        super().__init__()
        self.dtype: torch.dtype | None = None
        self.scale = scale
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.last = nn.Conv2d(width, channels * scale**2, 3, padding=1)
        self.features = nn.ModuleList(nn.Conv2d(width, depth, 3, padding=1) for depth in feature_channels)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(cast(Tensor, self.last.bias))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, condition: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Predict the target from the condition.

        Arguments:
            condition: (B, C, h, w), pixel values 0…255.

        Returns: the difference between prediction and prepared condition, (B, C, H, W) in pixel values, with
            H = scale · h and W = scale · w; and the features of each level j,
            (B, feature_channels[j], H/2^(n−j+1), W/2^(n−j+1)). That is the resolution at which the blocks of level j
            run their networks.
        """
        x = (condition / CELLS - 0.5).to(self.first.weight.dtype)
        with torch.autocast(x.device.type, self.dtype) if self.dtype else nullcontext():
            trunk = self.blocks(self.first(x))
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
