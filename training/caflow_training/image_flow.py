"""Multi-scale flow of one image: it turns the condition Y into latents D, or the target W into latents L.

See §4 and Appendix A.1 of the paper.
"""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from caflow_training.bijections import (
    AffineCoupling,
    Bijection,
    Chain,
    ReferenceSqueeze,
    Squeeze,
    TransitionStep,
    join,
    split,
)


def flow_steps(channels: int, steps: int, width: int) -> Iterator[Bijection]:
    """Yield the layers of `steps` flow steps (Appendix A.1, item 4).

    Each step consists of ActNorm, an invertible 1×1 convolution and an affine coupling.
    """
    for _ in range(steps):
        yield TransitionStep(channels)
        yield AffineCoupling(channels, width)


class ImageFlow(nn.Module):
    """Glow model (Kingma and Dhariwal, 2018): each level is a squeeze, transition steps, flow steps and a split.

    Level 0 is the coarsest, as in the paper. For an image (B, C, H, W) and n levels, the latents of level j ≥ 1 have
    shape (B, 2^(n−j) C, H / 2^(n−j), W / 2^(n−j)). Level 0 is not split, so its latents have shape
    (B, 2^(n+1) C, H / 2^n, W / 2^n). H and W must be multiples of 2^n.
    """

    def __init__(
        self,
        channels: int,
        levels: int,
        steps: int,
        width: int,
        transition_steps: int = 2,
        reference: bool = False,
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            Chain(
                [
                    ReferenceSqueeze(entering) if reference else Squeeze(),
                    *(TransitionStep(4 * entering) for _ in range(transition_steps)),
                    *flow_steps(4 * entering, steps, width),
                ]
            )
            for entering in (channels * 2 ** (levels - 1 - j) for j in range(levels))
        )

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Turn an image (B, C, H, W) into its latents, coarsest level first.

        Also return log |det| per level, (B, n) in nats.
        """
        latents: list[Tensor] = []
        log_dets: list[Tensor] = []
        for j in reversed(range(len(self.levels))):
            x, log_det = self.levels[j](x)
            if j > 0:
                latent, x = split(x)
                latents.append(latent)
            log_dets.append(log_det)
        latents.append(x)
        return latents[::-1], torch.stack(log_dets[::-1], dim=1)

    def inverse(self, latents: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Turn latents, coarsest level first, into the image.

        Also return log |det| of this direction per level, (B, n) in nats.
        """
        x = latents[0]
        log_dets: list[Tensor] = []
        for j, level in enumerate(self.levels):
            if j > 0:
                x = join(latents[j], x)
            x, log_det = cast(Chain, level).inverse(x)
            log_dets.append(log_det)
        return x, torch.stack(log_dets, dim=1)


def latent_channels(channels: int, levels: int, j: int) -> int:
    """Return the number of channels of the latents at level j, for an image with `channels` channels."""
    return int(channels * 2 ** (levels + 1 if j == 0 else levels - j))
