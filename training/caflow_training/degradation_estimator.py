"""Degradation estimator: a small convolutional network that tells from a condition how it was degraded.

It returns one vector for a whole image. So the larger the image, the more accurate is the estimate.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caflow_runtime.degradation import PARAMETERS
from caflow_training.dequantization import CELLS

WIDTHS = (32, 64, 96)
"""Channels at full, half and quarter resolution."""
HIDDEN = 128
FLOOR = 1e-3
"""Smallest mean activation. The network reads logarithms, because strengths of noise and blur differ by factors."""


class DegradationEstimator(nn.Module):
    """Two convolutions at each of three resolutions, the mean of their activations, and two fully connected layers.

    It always computes in float32: in bfloat16 the pixels would be rounded by as much as weak noise changes them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inputs = (channels, *WIDTHS)
        self.first = nn.ModuleList(
            nn.Conv2d(before, width, 3, stride=1 if k == 0 else 2, padding=1)
            for k, (before, width) in enumerate(zip(inputs, WIDTHS, strict=False))
        )
        self.second = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for width in WIDTHS)
        self.hidden = nn.Linear(2 * sum(WIDTHS), HIDDEN)
        self.last = nn.Linear(HIDDEN, len(PARAMETERS))

    def forward(self, condition: Tensor) -> Tensor:
        """Estimate the degradation of conditions (B, C, h, w), pixel values 0…255.

        Returns: (B, 13), estimates of `Degradation.vector`. They are not limited to 0…1.
        """
        x = condition / CELLS - 0.5
        means = []
        for first, second in zip(self.first, self.second, strict=True):
            x = F.relu(first(x))
            means.append(x.mean((2, 3)))
            x = F.relu(second(x))
            means.append(x.mean((2, 3)))
        statistics = torch.log(torch.cat(means, 1) + FLOOR)
        return cast(Tensor, self.last(F.relu(self.hidden(statistics))))
