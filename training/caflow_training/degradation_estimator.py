"""Degradation estimator: a small network that tells from the spectrum of a condition how it was degraded.

Blur lowers high frequencies, noise raises them, and coding removes some of them altogether. So the network reads no
pixels, but statistics of the 8×8 discrete cosine transform (DCT), which JPEG uses as well.
"""

import math
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caflow_runtime.degradation import PARAMETERS

TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""Weights of red, green and blue in the luma and the two channels of chroma of JPEG files (BT.601)."""
BLOCK = 8
"""Side of the blocks of the DCT, in pixels."""
BORDER = 4
"""Width of the border that is added, so that a block fits into any condition."""
WIDTHS = (256, 96)
"""Widths of the hidden layers."""
FLOOR = 0.05
"""Added to mean amplitudes, in grey levels, before their logarithm."""
SLOPE = 1.25
"""Amplitudes in photographs fall with frequency f as about 1/f^1.25."""
USUAL_LUMA, USUAL_CHROMA = 5.6, 0.9
"""Typical geometric means of amplitudes in luma and chroma, in grey levels."""


class DegradationEstimator(nn.Module):
    """Statistics of the spectrum, and three fully connected layers.

    The statistics of each DCT coefficient, in luma and in both channels of chroma, are the logarithm of its mean
    amplitude over all positions, relative to that of a typical photograph, and the fraction of positions where it is
    near 0. They are means, so an image may have any size, and the larger it is, the more exact is the estimate.

    It always computes in float32: in bfloat16 the pixels would be rounded by as much as weak noise changes them.
    """

    def __init__(self) -> None:
        super().__init__()
        kernels, frequencies = _dct()
        falling = frequencies**-SLOPE
        level = torch.tensor([USUAL_LUMA, USUAL_CHROMA, USUAL_CHROMA])[:, None]
        usual = level * falling / falling.log().mean().exp()
        self.register_buffer("kernels", kernels, persistent=False)
        self.register_buffer("usual", usual, persistent=False)
        widths = (2 * usual.numel(), *WIDTHS)
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.last = nn.Linear(WIDTHS[-1], len(PARAMETERS))

    def forward(self, condition: Tensor) -> Tensor:
        """Estimate the degradation of conditions (B, 3, h, w), pixel values 0…255.

        Returns: (B, 13), estimates of `Degradation.vector`. They are not limited to 0…1.
        """
        matrix = torch.tensor(TO_YCBCR).to(condition)
        planes = F.conv2d(condition, matrix[:, :, None, None]).flatten(0, 1)[:, None]
        padded = F.pad(planes, (BORDER,) * 4, mode="replicate")
        amplitudes = F.conv2d(padded, cast(Tensor, self.kernels).to(condition)).abs()
        mean = amplitudes.mean((2, 3)).unflatten(0, (-1, 3))
        near_zero = torch.exp(-amplitudes).mean((2, 3)).unflatten(0, (-1, 3))
        relative = torch.log(mean + FLOOR) - torch.log(cast(Tensor, self.usual).to(condition) + FLOOR)
        x = torch.cat([relative, near_zero - 0.5], 2).flatten(1)
        for layer in self.hidden:
            x = F.relu(layer(x))
        return cast(Tensor, self.last(x))


def _dct() -> tuple[Tensor, Tensor]:
    """Return the kernels of all DCT coefficients but the mean, (63, 1, 8, 8), and their frequencies, (63,)."""
    k = torch.arange(BLOCK, dtype=torch.float64)
    norms = torch.where(k == 0, math.sqrt(1 / BLOCK), math.sqrt(2 / BLOCK))[:, None]
    waves = norms * torch.cos((k + 0.5) * k[:, None] * math.pi / BLOCK)
    kernels = torch.einsum("uy,vx->uvyx", waves, waves).reshape(-1, 1, BLOCK, BLOCK)
    frequencies = (k[:, None].square() + k.square()).sqrt().flatten()
    return kernels[1:].float(), frequencies[1:].float()
