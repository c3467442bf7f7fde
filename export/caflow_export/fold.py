"""Folding: consecutive ActNorms and 1×1 convolutions become one affine map, with constants for both directions.

A folded chain has one affine map before each coupling and its injector, if any. Graphs of folded chains compute no
matrix inverse and no determinant.
"""

from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import Tensor

from caflow_training.bijections import (
    AffineCoupling,
    AffineInjector,
    AffineNetwork,
    Chain,
    ReferenceSqueeze,
    TransitionStep,
)


@dataclass(frozen=True)
class Mixing:
    """Affine map of the channels at each position, z = forward_weight x + forward_bias, and its inverse, in float64.

    Weights have shape (C, C), and biases (C,). The inverse is stored separately, because in the squeeze of the
    reference implementation the two directions are not exact inverses.
    """

    forward_weight: Tensor
    forward_bias: Tensor
    inverse_weight: Tensor
    inverse_bias: Tensor
    log_det: float
    """Log-determinant of the forward direction per position, in nats."""

    def then(self, other: "Mixing") -> "Mixing":
        """Return the map that applies this map first and then the other map."""
        return Mixing(
            other.forward_weight @ self.forward_weight,
            other.forward_weight @ self.forward_bias + other.forward_bias,
            self.inverse_weight @ other.inverse_weight,
            self.inverse_weight @ other.inverse_bias + self.inverse_bias,
            self.log_det + other.log_det,
        )


@dataclass(frozen=True)
class FoldedStep:
    """A mixing, then the network of an injector or None, then the network of a coupling."""

    mixing: Mixing
    injector: AffineNetwork | None
    coupling: AffineNetwork


@dataclass(frozen=True)
class FoldedChain:
    """Chain of layers as folded steps. `networks.Mixings` adds the squeeze, if the chain has one, to the first step."""

    channels: int
    """Number of channels after the squeeze."""
    steps: list[FoldedStep]

    @classmethod
    def of(cls, chain: Chain) -> Self:
        """Fold a level of an image flow, a block of the conditional flow, or a variational dequantizer."""
        steps: list[FoldedStep] = []
        mixing: Mixing | None = None
        injector: AffineNetwork | None = None
        for layer in chain.layers:
            if isinstance(layer, AffineCoupling):
                steps.append(FoldedStep(cast(Mixing, mixing), injector, layer.network))
                mixing, injector = None, None
            elif isinstance(layer, AffineInjector):
                injector = layer.network
            elif (layer_mixing := _mixing_of(layer)) is not None:
                mixing = layer_mixing if mixing is None else mixing.then(layer_mixing)
        return cls(len(steps[0].mixing.forward_bias), steps)


@torch.no_grad()
def _mixing_of(layer: torch.nn.Module) -> Mixing | None:
    """Return the affine map of one layer, or None for the plain squeeze, which only reorders values."""
    if isinstance(layer, TransitionStep):
        weight = layer.conv.weight.double()
        log_scale, bias = layer.norm.log_scale.double(), layer.norm.bias.double()
        return Mixing(
            weight * log_scale.exp(),
            weight @ bias,
            (-log_scale).exp()[:, None] * torch.linalg.inv(weight),
            -bias * (-log_scale).exp(),
            float(log_scale.sum() + torch.linalg.slogdet(weight).logabsdet),
        )
    if isinstance(layer, ReferenceSqueeze):
        kernel = torch.block_diag(*layer.kernel.double().reshape(layer.channels, 4, 4))
        zeros = kernel.new_zeros(len(kernel))
        return Mixing(kernel, zeros, kernel.T, zeros, 0.0)
    return None
