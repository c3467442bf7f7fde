"""From integer pixels to continuous ones and on to the space in which the flows work (paper, Appendix A.1, item 1).

Continuous pixel values are x = w + u in [0, 256], w the integer and u in [0, 1] the place inside its cell.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caflow_training.bijections import AffineCoupling, Bijection, TransitionStep

PixelSpace = Literal["centred", "logit"]
"""centred: v = x/256 − ½. logit: v = logit(α/2 + (1 − α) x/256)."""

CELLS = 256
ALPHA = 1e-5
MIDPOINT = 0.5


class CentredPixels(Bijection):
    """v = x/256 − ½, or with a condition its residual: v = (x − condition − ½)/256."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        shift = CELLS / 2 if condition is None else condition + MIDPOINT
        return (x - shift) / CELLS, _constant(x, -math.log(CELLS))

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        shift = CELLS / 2 if condition is None else condition + MIDPOINT
        return z * CELLS + shift, _constant(z, math.log(CELLS))


class LogitPixels(Bijection):
    """v = logit(α/2 + (1 − α) x/256), α = 1e-5."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        v, log_det = scaled_logit(x / CELLS)
        return v, log_det + _constant(x, -math.log(CELLS))

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = (sigmoid(z) - ALPHA / 2) * (CELLS / (1 - ALPHA))
        constant = math.log(CELLS) - math.log1p(-ALPHA)
        return x, _log_sigmoid_slope(z) + _constant(z, constant)


class ReferenceLogitPixels(LogitPixels):
    """As `LogitPixels`, with the public implementation's way back, x = 256 sigmoid(v): not quite its inverse."""

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return CELLS * sigmoid(z), _log_sigmoid_slope(z) + _constant(z, math.log(CELLS))


def pixel_space(name: PixelSpace, reference: bool = False) -> Bijection:
    """The map from continuous pixel values to the flow's space."""
    if name == "centred":
        return CentredPixels()
    return ReferenceLogitPixels() if reference else LogitPixels()


class UniformDequantizer(nn.Module):
    """x = w + u, u uniform."""

    def forward(self, w: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Integers w (B, C, H, W) in 0…255 and u in (0, 1) to x, and −log q(x | w), (B,) in nats: here 0."""
        return w + u, w.new_zeros(w.shape[0])


class VariationalDequantizer(nn.Module):
    """x = w + sigmoid(f(logit(u); w)): the place in the cell is drawn by a flow (Ho et al., "Flow++", 2019).

    `steps` of ActNorm, invertible 1×1 convolution and a coupling conditioned on w/127.5 − 1.
    """

    def __init__(self, channels: int, steps: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for _ in range(steps):
            self.layers += [TransitionStep(channels), AffineCoupling(channels, width, condition_channels=channels)]

    def forward(self, w: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Integers w (B, C, H, W) in 0…255 and u in (0, 1) to x, and −log q(x | w), (B,) in nats."""
        condition = w / ((CELLS - 1) / 2) - 1
        v, log_det = scaled_logit(u)
        for layer in self.layers:
            v, layer_log_det = layer(v, condition)
            log_det = log_det + layer_log_det
        return w + sigmoid(v), log_det + _log_sigmoid_slope(v)


def scaled_logit(v: Tensor) -> tuple[Tensor, Tensor]:
    """logit(α/2 + (1 − α) v) of v in [0, 1], and its log |det|, (B,) in nats."""
    v = ALPHA / 2 + (1 - ALPHA) * v
    slope = -(torch.log(v) + torch.log1p(-v)).sum((1, 2, 3))
    return torch.logit(v), slope + _constant(v, math.log1p(-ALPHA))


def sigmoid(v: Tensor) -> Tensor:
    """The logistic function, exact in relative terms for negative v, too.

    Written with softplus: ONNX Runtime's Sigmoid on the CPU is an approximation: off by 1e-7 near 0, and 0 from
    v = −18 on.
    """
    return torch.exp(-F.softplus(-v))


def log_sigmoid_slope(v: Tensor) -> Tensor:
    """log of the derivative of sigmoid at v, elementwise, in nats.

    Written with softplus: exporters turn logsigmoid into Log(Sigmoid).
    """
    return -(F.softplus(v) + F.softplus(-v))


def _log_sigmoid_slope(v: Tensor) -> Tensor:
    return log_sigmoid_slope(v).sum((1, 2, 3))


def _constant(x: Tensor, per_value: float) -> Tensor:
    return x.new_full((x.shape[0],), per_value * x[0].numel())
