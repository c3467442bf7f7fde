"""The conditional flow: target latents L given condition latents D (paper, §4.2, eq. 7-8, Appendices A.2 and D).

`g[i][j]`, j ≤ i, is the block of the flow of `L[i]` at level j. `g[j][j]` sees `D[j]`; `g[i][j]` with i > j sees
`L[j]` and `D[j]`, so that L_i depends on all coarser L and on D up to its own level (eq. 8).
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caflow_training.bijections import (
    AffineCoupling,
    AffineInjector,
    Bijection,
    Chain,
    ReferenceSqueeze,
    Squeeze,
    TransitionStep,
    join,
    split,
)
from caflow_training.image_flow import latent_channels

Dependencies = Literal["unshared", "shared", "dual-glow"]
"""unshared: a block for every (i, j), the paper; shared: one block per level j serves all i > j, its Appendix D;
dual-glow: p(L_i | D_i) only, eq. 6, for comparison."""

Latents = dict[tuple[int, int], Tensor]
"""Base latents z[i, j] of the flow of L[i] at level j."""


@dataclass(frozen=True)
class BlockSettings:
    """What all blocks have in common."""

    width: int
    """Channels inside the networks."""
    transition_steps: int = 2
    feature_channels: int = 0
    """Of the features that every block sees beside its condition."""
    reference: bool = False
    """With the squeeze of the public implementation."""


def conditional_block(channels: int, condition: int, steps: int, settings: BlockSettings) -> Chain:
    """One g[i][j] on (B, channels, H, W): squeeze, transition steps, then `steps` of ActNorm, invertible 1×1
    convolution, affine injector and conditional affine coupling (Appendix A.2). The condition comes squeezed, with
    `condition` channels, before the features."""
    squeezed, seen, width = 4 * channels, condition + settings.feature_channels, settings.width
    layers: list[Bijection] = [ReferenceSqueeze(channels) if settings.reference else Squeeze()]
    layers += (TransitionStep(squeezed) for _ in range(settings.transition_steps))
    for _ in range(steps):
        layers += [
            TransitionStep(squeezed),
            AffineInjector(squeezed, width, seen),
            AffineCoupling(squeezed, width, seen),
        ]
    return Chain(layers)


class ConditionalFlow(nn.Module):
    """p(L | D) as blocks g[i][j].

    Shapes, with C_j, h_j, w_j those of the level-j latent: z[j, j] is (B, 2 C_j, h_j/2, w_j/2), and so is z[i, j],
    i > j. At level 0, where nothing is split, z[0, 0] is (B, 4 C_0, h_0/2, w_0/2) and z[i, 0] half as deep. With
    dual-glow only z[i, i] exist, all of 4 C_i channels. h_j and w_j must be even: the image side a multiple of
    2^(n+1). With `feature_channels` every block also sees features of its level, (B, feature_channels, h_j/2, w_j/2).
    """

    def __init__(
        self,
        channels: int,
        levels: int,
        own_steps: int,
        cross_steps: int,
        block: BlockSettings,
        dependencies: Dependencies = "unshared",
    ) -> None:
        super().__init__()
        self.autoregressive = dependencies != "dual-glow"
        depths = [latent_channels(channels, levels, j) for j in range(levels)]
        self.own = nn.ModuleList(conditional_block(depth, 4 * depth, own_steps, block) for depth in depths)
        """own[j] is g[j][j]."""
        self.cross = nn.ModuleList()
        """cross[j] holds g[i][j] for i = j+1 … n−1; where they are shared, the one that serves all of them."""
        for j in range(levels - 1 if self.autoregressive else 0):
            entering = depths[j] // 2 if j == 0 else depths[j]
            count = 1 if dependencies == "shared" else levels - 1 - j
            self.cross.append(
                nn.ModuleList(conditional_block(entering, 8 * depths[j], cross_steps, block) for _ in range(count))
            )

    def cross_blocks(self, j: int) -> list[tuple[Chain, list[int]]]:
        """The blocks g[i][j], i > j, each with the flows i that it serves."""
        if not self.autoregressive or j == len(self.own) - 1:
            return []
        blocks = [cast(Chain, block) for block in cast(nn.ModuleList, self.cross[j])]
        flows = list(range(j + 1, len(self.own)))
        if len(blocks) == len(flows):
            return [(block, [i]) for block, i in zip(blocks, flows, strict=True)]
        return [(blocks[0], flows)]

    def splits(self, j: int) -> bool:
        """Whether blocks at level j hand half of their channels on to level j − 1."""
        return self.autoregressive and j > 0

    def forward(
        self,
        target_latents: list[Tensor],
        condition_latents: list[Tensor],
        features: list[Tensor] | None = None,
        seen_latents: list[Tensor] | None = None,
    ) -> tuple[Latents, Tensor]:
        """L and D, coarsest first, to base latents z[i, j] and log |det| per level j, (B, n) in nats.

        Arguments:
            features: of each level, where the flow was built for them.
            seen_latents: L as the blocks of finer flows see it; by default L itself. Training may add noise to it.
        """
        seen_latents = target_latents if seen_latents is None else seen_latents
        z: Latents = {}
        passing: dict[int, Tensor] = {}
        log_dets: list[Tensor] = []
        for j in reversed(range(len(self.own))):
            extra = [] if features is None else [features[j]]
            h, log_det = self.own[j](target_latents[j], squeeze_condition([condition_latents[j]], extra))
            z[j, j], rest = split(h) if self.splits(j) else (h, h)
            for block, flows in self.cross_blocks(j):
                condition = squeeze_condition([seen_latents[j], condition_latents[j]], extra)
                h, cross_log_det = block(_stack([passing[i] for i in flows]), _stack([condition] * len(flows)))
                log_det = log_det + sum(cross_log_det.chunk(len(flows)))
                for i, part in zip(flows, h.chunk(len(flows)), strict=True):
                    z[i, j], passing[i] = split(part) if self.splits(j) else (part, part)
            passing[j] = rest
            log_dets.append(log_det)
        return z, torch.stack(log_dets[::-1], dim=1)

    def inverse(
        self, z: Latents, condition_latents: list[Tensor], features: list[Tensor] | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Base latents and D to L, coarsest first, and log |det| of this direction per level j, (B, n) in nats."""
        target_latents: list[Tensor] = []
        passing: dict[int, Tensor] = {}
        log_dets: list[Tensor] = []
        for j in range(len(self.own)):
            h = join(z[j, j], passing[j]) if self.splits(j) else z[j, j]
            block = cast(Chain, self.own[j])
            extra = [] if features is None else [features[j]]
            latent, log_det = block.inverse(h, squeeze_condition([condition_latents[j]], extra))
            target_latents.append(latent)
            for block, flows in self.cross_blocks(j):
                condition = squeeze_condition([latent, condition_latents[j]], extra)
                h = _stack([join(z[i, j], passing[i]) if self.splits(j) else z[i, j] for i in flows])
                h, cross_log_det = block.inverse(h, _stack([condition] * len(flows)))
                log_det = log_det + sum(cross_log_det.chunk(len(flows)))
                passing.update(zip(flows, h.chunk(len(flows)), strict=True))
            log_dets.append(log_det)
        return target_latents, torch.stack(log_dets, dim=1)

    def latent_shapes(self, channels: int, height: int, width: int) -> dict[tuple[int, int], tuple[int, int, int]]:
        """Shape (C, H, W) of every z[i, j] for a target of `channels` × `height` × `width`."""
        levels = len(self.own)
        shapes = {}
        for j in range(levels):
            depth = latent_channels(channels, levels, j)
            side = 2 ** (levels - j + 1)
            for i in range(j, levels if self.autoregressive else j + 1):
                factor = 2 if self.splits(j) or i > j else 4
                shapes[i, j] = (factor * depth, height // side, width // side)
        return shapes


def squeeze_condition(latents: list[Tensor], features: list[Tensor]) -> Tensor:
    """Latents of one level, squeezed to the resolution that the block's networks see, and features, side by side."""
    return torch.cat([F.pixel_unshuffle(torch.cat(latents, dim=1), 2), *features], dim=1)


def _stack(rows: list[Tensor]) -> Tensor:
    return rows[0] if len(rows) == 1 else torch.cat(rows)
