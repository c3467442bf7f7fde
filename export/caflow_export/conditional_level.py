"""One level of the conditional flow: its own block and all its cross blocks, for both directions.

`graphs.py` makes the graphs `encode`, `decode_j` and `likelihood_j` from it, and explains terms and `passing`.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn

from caflow_export.fold import FoldedChain
from caflow_export.levels import Blocks, CrossTerms, OwnTerms, Precision
from caflow_export.networks import halves, join_halves, squeeze
from caflow_training.bijections import Chain
from caflow_training.image_flow import latent_channels
from caflow_training.model import CHANNELS, CAFlow

LOG_2PI = math.log(2 * math.pi)


class ConditionalLevel(nn.Module):
    """Level j of the conditional flow: the block g[j][j] and all blocks g[i][j] with i > j.

    The blocks are folded (`fold.py`), hoisted and batched (`networks.py`). Blocks g[i][j] with separate weights run
    side by side as groups of channels. A shared block runs once, with its flows stacked as items.
    """

    def __init__(self, model: CAFlow, j: int, precision: Precision) -> None:
        super().__init__()
        flow = model.conditional_flow
        self.level = j
        self.splits = flow.splits(j)
        own = FoldedChain.of(cast(Chain, flow.own[j]))
        self.own = Blocks([own], precision)
        self.own_terms = OwnTerms(own, precision)
        served = flow.cross_blocks(j)
        self.cross_flows = sum(len(flows) for _, flows in served)
        self.stacked = self.cross_flows if len(served) == 1 else 1
        """Number of flows that share one block and are stacked as items; 1 if no block is shared."""
        if served:
            cross = [FoldedChain.of(block) for block, _ in served]
            self.cross = Blocks(cross, precision)
            self.cross_terms = CrossTerms(cross, 4 * latent_channels(CHANNELS, model.config.levels, j), precision)

    def encode(self, d: Tensor, features: Tensor | None) -> tuple[Tensor, ...]:
        """Return the terms of the level: those of `OwnTerms`, then those of `CrossTerms` if there are cross blocks.

        Arguments:
            d: D[j].
            features: features of level j from the mean network, or None if the model has none.
        """
        d = squeeze(d) if features is None else torch.cat([squeeze(d), features], 1)
        own: tuple[Tensor, ...] = self.own_terms(d)
        return own + self.cross_terms.of_condition(d) if self.cross_flows else own

    def inverse(self, z: Tensor, passing: Tensor | None, terms: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return L[j], `passing` for level j + 1 if there are flows i > j, and the log-likelihood map.

        Arguments:
            z: noise z[i, j], i = j … n−1, side by side as channels.
            passing: output of level j − 1 for the same flows, or None if there is none.
            terms: terms of this level, with one entry per item.
        """
        scale, shift, injector_log_det, hoisted, *of_d = terms
        own_z, cross_z = self._own_and_cross(z, 4 if not self.splits else 2)
        log_likelihood = gaussian(z)
        if passing is not None:
            own_passing, cross_passing = passing.split([self._passing, passing.shape[1] - self._passing], 1)
            own_z = torch.cat([own_z, own_passing], 1)
        latent, log_det = self.own.inverse(own_z, scale, shift, hoisted)
        log_likelihood = log_likelihood + log_det + injector_log_det
        if not self.cross_flows:
            return latent, log_likelihood
        if passing is not None:
            cross_z = join_halves(cross_z, cross_passing, self.cross_flows)
        cross_terms, injector_log_det = self._cross_terms(latent, of_d)
        handed, log_det = self.cross.inverse(self._stack(cross_z), *cross_terms)
        return latent, self._unstack(handed), log_likelihood + self._over_flows(log_det, injector_log_det)

    def forward(self, latent: Tensor, passing: Tensor | None, terms: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the noise z of the level, `passing` for level j − 1 if the level splits, and the log-likelihood map.

        Arguments:
            latent: L[j].
            passing: output of level j + 1 for the flows i > j, or None if there are no such flows.
            terms: terms of this level, with one entry per item.
        """
        scale, shift, injector_log_det, hoisted, *of_d = terms
        own, log_likelihood = self.own(latent, scale, shift, hoisted)
        log_likelihood = log_likelihood + injector_log_det
        noise, handed = own.chunk(2, 1) if self.splits else (own, None)
        if passing is not None:
            cross_terms, injector_log_det = self._cross_terms(latent, of_d)
            cross, log_det = self.cross(self._stack(passing), *cross_terms)
            log_likelihood = log_likelihood + self._over_flows(log_det, injector_log_det)
            cross = self._unstack(cross)
            if handed is not None:
                cross, cross_handed = halves(cross, self.cross_flows)
                handed = torch.cat([handed, cross_handed], 1)
            noise = torch.cat([noise, cross], 1)
        log_likelihood = log_likelihood + gaussian(noise)
        return (noise, log_likelihood) if handed is None else (noise, handed, log_likelihood)

    @property
    def _passing(self) -> int:
        """Number of channels of `passing` from level j − 1 that belong to g[j][j]."""
        return self.own.channels // 2

    def _own_and_cross(self, z: Tensor, quarters: int) -> tuple[Tensor, Tensor]:
        own = self.own.channels * quarters // 4
        return tuple(z.split([own, z.shape[1] - own], 1)) if self.cross_flows else (z, z)

    def _cross_terms(self, latent: Tensor, of_d: list[Tensor]) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        scale, shift, log_det, hoisted = self.cross_terms(squeeze(latent), tuple(of_d))
        if self.stacked > 1:
            scale, shift, hoisted = (torch.cat([term] * self.stacked) for term in (scale, shift, hoisted))
        return (scale, shift, hoisted), log_det

    def _stack(self, x: Tensor) -> Tensor:
        """Move the flows from channels to items if one block serves all of them."""
        return torch.cat(x.chunk(self.stacked, 1)) if self.stacked > 1 else x

    def _unstack(self, x: Tensor) -> Tensor:
        return torch.cat(x.chunk(self.stacked), 1) if self.stacked > 1 else x

    def _over_flows(self, log_det: Tensor, injector_log_det: Tensor) -> Tensor:
        if self.stacked > 1:
            return torch.stack(log_det.chunk(self.stacked)).sum(0) + self.stacked * injector_log_det
        return log_det + injector_log_det


def gaussian(z: Tensor) -> Tensor:
    """Return log N(z; 0, I) at each position, (R, h, w), in nats."""
    return -0.5 * (z.square().sum(1) + z.shape[1] * LOG_2PI)
