"""Conditional flow: it turns the target's latents L into noise, given the condition's latents D.

See §4.2, equations 7 and 8, and Appendices A.2 and D of the paper. The block `g[i][j]`, j ≤ i, processes `L[i]` at
level j. An own block `g[j][j]` is conditioned on `D[j]`. A cross block `g[i][j]`, i > j, is conditioned on `L[j]` and
`D[j]`. So `L[i]` depends on all coarser L, and on D up to level i (equation 8).
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
"""Blocks of the conditional flow. unshared: a separate block for every (i, j), as in the paper. shared: one cross block
per level j for all i > j (Appendix D). dual-glow: own blocks alone, so that L[i] depends on D[i] only (eq. 6)."""

Latents = dict[tuple[int, int], Tensor]
"""Base latents: z[i, j] is the noise that the flow of L[i] returns at level j. Keys are (i, j)."""


@dataclass(frozen=True)
class BlockSettings:
    """Settings that all blocks share."""

    width: int
    """Channels of the networks' hidden layers."""
    transition_steps: int = 2
    feature_channels: int = 0
    """Channels of the mean network's features that every block reads in addition to its condition."""
    reference: bool = False
    """Whether blocks use the squeeze of the public implementation."""


def conditional_block(channels: int, condition: int, steps: int, settings: BlockSettings) -> Chain:
    """Return a block g[i][j] for inputs (B, channels, H, W) (Appendix A.2).

    The block is a squeeze, transition steps, and `steps` of ActNorm, invertible 1×1 convolution, affine injector and
    conditional affine coupling.

    Arguments:
        channels: channels of the input, before the squeeze.
        condition: channels of the condition's latents, after the squeeze. The features follow them.
    """
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
    """Model of p(L | D) with the blocks g[i][j].

    Let (B, C_j, h_j, w_j) be the shape of L[j]. All z[i, j], i ≥ j, have shape (B, 2 C_j, h_j/2, w_j/2). There is one
    exception: level 0 is not split, so z[0, 0] has 4 C_0 channels. With dual-glow, only the z[i, i] exist, and they
    have 4 C_i channels. All h_j and w_j must be even, so the sides of the image must be multiples of 2^(n+1). With
    `feature_channels`, every block also reads features of its level, (B, feature_channels, h_j/2, w_j/2).
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
        """Own blocks: own[j] is g[j][j]."""
        self.cross = nn.ModuleList()
        """Cross blocks: cross[j] contains g[i][j] for i = j+1 … n−1, or a single shared block for all i."""
        for j in range(levels - 1 if self.autoregressive else 0):
            entering = depths[j] // 2 if j == 0 else depths[j]
            count = 1 if dependencies == "shared" else levels - 1 - j
            self.cross.append(
                nn.ModuleList(conditional_block(entering, 8 * depths[j], cross_steps, block) for _ in range(count))
            )

    def cross_blocks(self, j: int) -> list[tuple[Chain, list[int]]]:
        """Return the cross blocks at level j, each with the list of all i whose flows use the block."""
        if not self.autoregressive or j == len(self.own) - 1:
            return []
        blocks = [cast(Chain, block) for block in cast(nn.ModuleList, self.cross[j])]
        flows = list(range(j + 1, len(self.own)))
        if len(blocks) == len(flows):
            return [(block, [i]) for block, i in zip(blocks, flows, strict=True)]
        return [(blocks[0], flows)]

    def splits(self, j: int) -> bool:
        """Return whether blocks at level j pass half of their channels to level j − 1."""
        return self.autoregressive and j > 0

    def forward(
        self,
        target_latents: list[Tensor],
        condition_latents: list[Tensor],
        features: list[Tensor] | None = None,
        seen_latents: list[Tensor] | None = None,
    ) -> tuple[Latents, Tensor]:
        """Turn the target's latents into base latents z[i, j]. Also return log |det| per level j, (B, n) in nats.

        Arguments:
            target_latents: L, coarsest level first.
            condition_latents: D, coarsest level first.
            features: features of each level, coarsest first, for a flow with `feature_channels`.
            seen_latents: L as the cross blocks read it as a condition; by default `target_latents`. Training may add
                noise to it.
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
        """Turn base latents into the target's latents L, coarsest level first.

        Also return log |det| of this direction per level j, (B, n) in nats.
        """
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
        """Return the shape (C, H, W) of every z[i, j], for a target of shape (channels, height, width)."""
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
    """Return the input that a block's networks get as condition.

    The latents of one level are squeezed to the resolution of the networks, and joined with the features along the
    channels.
    """
    return torch.cat([F.pixel_unshuffle(torch.cat(latents, dim=1), 2), *features], dim=1)


def _stack(rows: list[Tensor]) -> Tensor:
    return rows[0] if len(rows) == 1 else torch.cat(rows)
