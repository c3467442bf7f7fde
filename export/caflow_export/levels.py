"""Building blocks of the graphs: one level of each flow, folded, hoisted and batched.

Log-determinants are returned as maps with one value per position. Folding is explained in `fold.py`, hoisting and
batching in `networks.py`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caflow_export.fold import FoldedChain
from caflow_export.networks import ConditioningTerms, Couplings, Mixings, NetworkTails, halves, join_halves
from caflow_training.bijections import AffineNetwork, Bijection, Chain
from caflow_training.dequantization import ALPHA, CELLS, MIDPOINT, VariationalDequantizer, log_sigmoid_slope, sigmoid
from caflow_training.model import CHANNELS


@dataclass(frozen=True)
class Precision:
    """Types of the networks' convolutions and of the flow's state, the tensor that the flow transforms."""

    network: torch.dtype = torch.float32
    state: torch.dtype = torch.float32


class FlowLevel(nn.Module):
    """One level of an image flow, as a folded chain.

    `inverse` maps (R, C, h, w) to (R, C/4, 2h, 2w), and `forward` does the opposite. Both also return the
    log-determinant of the *forward* direction per position, (R, h, w), in nats. This is the level's share of the
    log-likelihood.
    """

    def __init__(self, chain: Chain, precision: Precision) -> None:
        super().__init__()
        folded = FoldedChain.of(chain)
        kept = folded.channels // 2
        self.mixings = nn.ModuleList(Mixings([s.mixing], precision.state, m == 0) for m, s in enumerate(folded.steps))
        self.firsts = nn.ModuleList(
            ConditioningTerms([step.coupling], slice(0, kept), True, precision.network) for step in folded.steps
        )
        self.tails = nn.ModuleList(
            NetworkTails([step.coupling], precision.network, precision.state) for step in folded.steps
        )
        self.log_det = sum(step.mixing.log_det for step in folded.steps)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map data to noise."""
        log_scales: list[Tensor] = []
        for mixing, first, tail in zip(self.mixings, self.firsts, self.tails, strict=True):
            kept, changed = halves(cast(Mixings, mixing).data_to_noise(x), 1)
            log_scale, shift = tail(first(kept))
            log_scales.append(log_scale)
            x = torch.cat([kept, changed * log_scale.exp() + shift], dim=1)
        return x, self.log_det + _sum_channels(log_scales)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map noise to data."""
        log_scales: list[Tensor] = []
        for mixing, first, tail in zip(
            reversed(self.mixings), reversed(self.firsts), reversed(self.tails), strict=True
        ):
            kept, changed = halves(z, 1)
            log_scale, shift = tail(first(kept))
            log_scales.append(log_scale)
            z = torch.cat([kept, (changed - shift) * (-log_scale).exp()], dim=1)
            z = cast(Mixings, mixing).noise_to_data(z)
        return F.pixel_shuffle(z, 2), self.log_det + _sum_channels(log_scales)


class DequantizerMidpoint(nn.Module):
    """Variational dequantizer at u = ½.

    Maps integers w, (R, C, H, W), to continuous pixel values x, and returns −log q(x | w) as a map, (R, H, W), in nats.
    """

    def __init__(self, dequantizer: VariationalDequantizer, precision: Precision) -> None:
        super().__init__()
        self.mixings, self.firsts, self.tails = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        steps = FoldedChain.of(Chain(cast(Iterable[Bijection], dequantizer.layers))).steps if dequantizer.layers else []
        for step in steps:
            self.mixings.append(Mixings([step.mixing], precision.state, squeezes=False))
            self.firsts.append(ConditioningTerms([step.coupling], slice(0, None), True, precision.network))
            self.tails.append(NetworkTails([step.coupling], precision.network, precision.state))
        per_value = math.log1p(-ALPHA) - 2 * math.log(MIDPOINT)
        self.log_det = sum(step.mixing.log_det for step in steps) + CHANNELS * per_value

    def forward(self, w: Tensor) -> tuple[Tensor, Tensor]:
        condition = w / ((CELLS - 1) / 2) - 1
        v = torch.zeros_like(w)  # logit(½)
        log_det = torch.zeros_like(w[:, 0]) + self.log_det
        for mixing, first, tail in zip(self.mixings, self.firsts, self.tails, strict=True):
            v = cast(Mixings, mixing).data_to_noise(v)
            kept, changed = v.split([CHANNELS // 2, CHANNELS - CHANNELS // 2], 1)
            log_scale, shift = tail(first(torch.cat([kept, condition], 1)))
            v = torch.cat([kept, changed * log_scale.exp() + shift], 1)
            log_det = log_det + log_scale.sum(1)
        return w + sigmoid(v), log_det + log_sigmoid_slope(v).sum(1)


class Blocks(nn.Module):
    """Blocks g[i][j] of one level, side by side as groups of channels.

    `OwnTerms` or `CrossTerms` computes the injectors' scales and shifts and the hoisted contributions to the
    couplings. Directions and log-determinants are as in `FlowLevel`, but the log-determinants here do not include
    those of the injectors.
    """

    def __init__(self, chains: Sequence[FoldedChain], precision: Precision) -> None:
        super().__init__()
        self.flows = len(chains)
        self.channels = chains[0].channels
        self.kept = self.channels // 2
        steps = list(zip(*(chain.steps for chain in chains), strict=True))
        self.steps = len(steps)
        self.mixings = nn.ModuleList(
            Mixings([s.mixing for s in step], precision.state, m == 0) for m, step in enumerate(steps)
        )
        self.couplings = nn.ModuleList(
            Couplings([s.coupling for s in step], self.kept, precision.network, precision.state) for step in steps
        )
        self.log_det = sum(s.mixing.log_det for step in steps for s in step)

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor, hoisted: Tensor) -> tuple[Tensor, Tensor]:
        """Map data to noise.

        `scale` is exp(−log-scale) of the injectors. The channels of each term consist of one equal part per step.
        """
        log_scales: list[Tensor] = []
        terms = zip(*(t.chunk(self.steps, 1) for t in (scale, shift, hoisted)), strict=True)
        for mixing, coupling, (step_scale, step_shift, step_hoisted) in zip(
            self.mixings, self.couplings, terms, strict=True
        ):
            x = cast(Mixings, mixing).data_to_noise(x) / step_scale + step_shift
            kept, changed = halves(x, self.flows)
            log_scale, coupling_shift = coupling(kept, step_hoisted)
            log_scales.append(log_scale)
            x = join_halves(kept, changed * log_scale.exp() + coupling_shift, self.flows)
        return x, self.log_det + _sum_channels(log_scales)

    def inverse(self, z: Tensor, scale: Tensor, shift: Tensor, hoisted: Tensor) -> tuple[Tensor, Tensor]:
        """Map noise to data, with the same terms as `forward`."""
        log_scales: list[Tensor] = []
        terms = list(zip(*(t.chunk(self.steps, 1) for t in (scale, shift, hoisted)), strict=True))
        for mixing, coupling, (step_scale, step_shift, step_hoisted) in zip(
            reversed(self.mixings), reversed(self.couplings), reversed(terms), strict=True
        ):
            kept, changed = halves(z, self.flows)
            log_scale, coupling_shift = coupling(kept, step_hoisted)
            log_scales.append(log_scale)
            z = join_halves(kept, (changed - coupling_shift) * (-log_scale).exp(), self.flows)
            z = cast(Mixings, mixing).noise_to_data((z - step_shift) * step_scale)
        return F.pixel_shuffle(z, 2), self.log_det + _sum_channels(log_scales)


class OwnTerms(nn.Module):
    """Terms of the block g[j][j], computed from `D[j]` once per image.

    The networks of g[j][j] have no other inputs than `D[j]` and the flow's state.
    """

    def __init__(self, chain: FoldedChain, precision: Precision) -> None:
        super().__init__()
        injectors, couplings = _injectors([chain]), _couplings([chain])
        self.injector_firsts = ConditioningTerms(injectors, slice(0, None), True, precision.network)
        self.injector_tails = NetworkTails(injectors, precision.network, precision.state)
        self.hoisted = ConditioningTerms(couplings, slice(chain.channels // 2, None), True, precision.network)

    def forward(self, d: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the injectors' scale, shift and log-determinant map, and the hoisted contribution to the couplings.

        `d` is the squeezed D[j], (B, 4C, h, w). If the model has a mean network, its features follow as more channels.
        """
        log_scale, shift = self.injector_tails(self.injector_firsts(d))
        return (-log_scale).exp(), shift, log_scale.sum(1), self.hoisted(d)


class CrossTerms(nn.Module):
    """Terms of the blocks g[i][j], i > j, computed from `D[j]` once per image and from `L[j]` once per item."""

    def __init__(self, chains: Sequence[FoldedChain], latent_channels: int, precision: Precision) -> None:
        super().__init__()
        injectors, couplings = _injectors(chains), _couplings(chains)
        kept = chains[0].channels // 2
        end_of_l = kept + latent_channels
        network = precision.network
        self.injectors_of_d = ConditioningTerms(injectors, slice(latent_channels, None), True, network)
        self.couplings_of_d = ConditioningTerms(couplings, slice(end_of_l, None), True, network)
        self.injectors_of_l = ConditioningTerms(injectors, slice(0, latent_channels), False, network)
        self.couplings_of_l = ConditioningTerms(couplings, slice(kept, end_of_l), False, network)
        self.injector_tails = NetworkTails(injectors, network, precision.state)

    def of_condition(self, d: Tensor) -> tuple[Tensor, Tensor]:
        """Return the contributions of `d` to injectors and couplings. `d` is as in `OwnTerms`."""
        return self.injectors_of_d(d), self.couplings_of_d(d)

    def forward(self, latent: Tensor, of_d: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the same four terms as `OwnTerms`, with one entry per item.

        Arguments:
            latent: squeezed L[j], (R, 4C, h, w).
            of_d: output of `of_condition`, with one entry per item.
        """
        injectors, couplings = of_d
        log_scale, shift = self.injector_tails(self.injectors_of_l(latent) + injectors)
        return (-log_scale).exp(), shift, log_scale.sum(1), self.couplings_of_l(latent) + couplings


def _injectors(chains: Sequence[FoldedChain]) -> list[AffineNetwork]:
    """Return the injectors' networks, first those of step 0 of all chains, then those of step 1, and so on."""
    steps = zip(*(chain.steps for chain in chains), strict=True)
    return [cast(AffineNetwork, s.injector) for step in steps for s in step]


def _couplings(chains: Sequence[FoldedChain]) -> list[AffineNetwork]:
    """Return the couplings' networks, in the order of `_injectors`."""
    steps = zip(*(chain.steps for chain in chains), strict=True)
    return [s.coupling for step in steps for s in step]


def _sum_channels(log_scales: Sequence[Tensor]) -> Tensor:
    """Return the sum over all tensors and their channels, (R, h, w)."""
    total = log_scales[0]
    for log_scale in log_scales[1:]:
        total = total + log_scale
    return total.sum(1)
