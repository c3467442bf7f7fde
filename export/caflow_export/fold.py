"""Fold: ActNorm and the 1×1 convolution, and runs of both, become one affine map with constants for both directions.

What is left of a chain is one such map before each affine layer pair: no inverse, no determinant.
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
    """z = forward_weight x + forward_bias at each position, and the way back, in float64.

    Weights are (C, C), biases (C,). The way back is stored, not derived: the reference's squeeze kernels have one that
    is not their inverse.
    """

    forward_weight: Tensor
    forward_bias: Tensor
    inverse_weight: Tensor
    inverse_bias: Tensor
    log_det: float
    """log |det| per position of the forward direction, nats."""

    def then(self, other: "Mixing") -> "Mixing":
        """This map, followed by another."""
        return Mixing(
            other.forward_weight @ self.forward_weight,
            other.forward_weight @ self.forward_bias + other.forward_bias,
            self.inverse_weight @ other.inverse_weight,
            self.inverse_weight @ other.inverse_bias + self.inverse_bias,
            self.log_det + other.log_det,
        )


@dataclass(frozen=True)
class FoldedStep:
    """A mixing, then the networks of an injector, where there is one, and of a coupling."""

    mixing: Mixing
    injector: AffineNetwork | None
    coupling: AffineNetwork


@dataclass(frozen=True)
class FoldedChain:
    """A squeeze, then the steps."""

    channels: int
    """After the squeeze."""
    steps: list[FoldedStep]

    @classmethod
    def of(cls, chain: Chain) -> Self:
        """Fold one level of an image flow or one block of the conditional flow."""
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
    """The affine map of one layer; None for the plain squeeze, which only reorders."""
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
