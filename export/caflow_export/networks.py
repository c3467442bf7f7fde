"""Hoisting and batching of the networks inside affine layers.

Hoisting: a convolution is linear in its input channels. The condition's contribution to a network's first convolution
can therefore be computed separately from that of the flow's state, once per image and not once per sample.

Batching across flows: networks of equal shape that see the same positions run as one grouped convolution.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caflow_export.fold import Mixing
from caflow_training.bijections import AffineNetwork, bounded_log_scale


class ConditioningTerms(nn.Module):
    """Contribution of some input channels to the first convolutions of several networks.

    Maps (B, C, H, W) to (B, Σ widths, H, W), in the networks' type and before the activation. A network's first
    convolution is the sum of its contributions, exactly one of which includes the bias.
    """

    def __init__(self, networks: Sequence[AffineNetwork], channels: slice, with_bias: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.convolution = _convolution(
            torch.cat([network.first.weight[:, channels] for network in networks]),
            _cat_bias([network.first for network in networks]) if with_bias else None,
            dtype,
        )

    def forward(self, x: Tensor) -> Tensor:
        contribution: Tensor = self.convolution(x.to(self.convolution.weight.dtype))
        return contribution


class NetworkTails(nn.Module):
    """All layers after the first convolution of several networks, side by side.

    Maps the outputs of the first convolutions before the activation, (R, networks · width, H, W), to log-scales and
    shifts, each (R, networks · C, H, W) in `state_dtype`.
    """

    def __init__(self, networks: Sequence[AffineNetwork], dtype: torch.dtype, state_dtype: torch.dtype) -> None:
        super().__init__()
        self.count = len(networks)
        self.state_dtype = state_dtype
        self.log_scale_bound = networks[0].log_scale_bound  # the bound is the same in the whole model
        self.middle, self.last = (
            _convolution(torch.cat([layer.weight for layer in layers]), _cat_bias(layers), dtype, groups=len(networks))
            for layers in ([n.middle for n in networks], [n.last for n in networks])
        )

    def forward(self, first: Tensor) -> tuple[Tensor, Tensor]:
        h = self.last(F.relu(self.middle(F.relu(first)))).to(self.state_dtype)
        raw_log_scale, shift = halves(h, self.count)
        return bounded_log_scale(raw_log_scale, self.log_scale_bound), shift


class Couplings(nn.Module):
    """Networks of one step's couplings, one per flow, side by side.

    Their first convolution sees the flow's state only. The other contributions to it are hoisted.
    """

    def __init__(self, networks: Sequence[AffineNetwork], kept: int, dtype: torch.dtype, state: torch.dtype) -> None:
        super().__init__()
        self.first = _convolution(
            torch.cat([network.first.weight[:, :kept] for network in networks]), None, dtype, groups=len(networks)
        )
        self.tails = NetworkTails(networks, dtype, state)

    def forward(self, kept: Tensor, hoisted: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-scales and shifts.

        Arguments:
            kept: channels of the state that the coupling does not change, (R, flows · kept, H, W).
            hoisted: contribution of all other inputs to the first convolutions.
        """
        log_scale, shift = self.tails(self.first(kept.to(self.first.weight.dtype)) + hoisted)
        return log_scale, shift


class Mixings(nn.Module):
    """Folded mixings of one step, one per flow, side by side. Each direction is one grouped 1×1 convolution.

    With `squeezes`, `data_to_noise` includes the squeeze before the mixings, as a 2×2 convolution of stride 2.
    `noise_to_data` never includes it.
    """

    def __init__(self, mixings: Sequence[Mixing], dtype: torch.dtype, squeezes: bool) -> None:
        super().__init__()
        self.log_det = sum(mixing.log_det for mixing in mixings)
        channels = len(mixings[0].forward_bias)
        kernel = (channels // 4, 2, 2) if squeezes else (channels, 1, 1)
        self.data_to_noise = _convolution(
            torch.cat([m.forward_weight for m in mixings]).reshape(-1, *kernel),
            torch.cat([m.forward_bias for m in mixings]),
            dtype,
            groups=len(mixings),
        )
        self.noise_to_data = _convolution(
            torch.cat([m.inverse_weight for m in mixings])[:, :, None, None],
            torch.cat([m.inverse_bias for m in mixings]),
            dtype,
            groups=len(mixings),
        )


def halves(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return the first and the second halves of the channels of each group.

    `x` is (R, groups · C, H, W), and each result is (R, groups · C/2, H, W).
    """
    if groups == 1:
        first, second = x.chunk(2, dim=1)
        return first, second
    first, second = x.unflatten(1, (groups, x.shape[1] // groups)).chunk(2, dim=2)
    return first.flatten(1, 2), second.flatten(1, 2)


def join_halves(first: Tensor, second: Tensor, groups: int) -> Tensor:
    """Join the halves of each group's channels. This is the inverse of `halves`."""
    if groups == 1:
        return torch.cat([first, second], dim=1)
    parts = [x.unflatten(1, (groups, x.shape[1] // groups)) for x in (first, second)]
    return torch.cat(parts, dim=2).flatten(1, 2)


def squeeze(x: Tensor) -> Tensor:
    """Return `pixel_unshuffle(x, 2)`, computed as a convolution.

    A convolution is one node of a graph. Reshaping with dynamic sizes would take about twelve nodes.
    """
    channels = x.shape[1]
    kernel = torch.eye(4, dtype=x.dtype, device=x.device).reshape(4, 1, 2, 2).repeat(channels, 1, 1, 1)
    return F.conv2d(x, kernel, stride=2, groups=channels)


def _cat_bias(layers: Sequence[nn.Conv2d]) -> Tensor:
    return torch.cat([layer.bias for layer in layers if layer.bias is not None])


def _convolution(weight: Tensor, bias: Tensor | None, dtype: torch.dtype, groups: int = 1) -> nn.Conv2d:
    """Return a convolution with this weight. It keeps the image's size, or halves it if the kernel is 2×2."""
    out_channels, in_channels, side, _ = weight.shape
    stride, padding = (2, 0) if side == 2 else (1, side // 2)
    convolution = nn.Conv2d(
        in_channels * groups, out_channels, side, stride, padding, groups=groups, bias=bias is not None
    )
    convolution.weight = nn.Parameter(weight.detach().to(dtype).contiguous(), requires_grad=False)
    if bias is not None:
        convolution.bias = nn.Parameter(bias.detach().to(dtype).clone(), requires_grad=False)
    return convolution
