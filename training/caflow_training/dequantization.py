"""Dequantization of integer pixel values, and the scale on which the flows work (paper, Appendix A.1, item 1).

A continuous pixel value is x = w + u in [0, 256]: w is the integer, and u in [0, 1] is the position in the
interval from w to w + 1.
"""

import math
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caflow_training.bijections import AffineCoupling, Bijection, TransitionStep

PixelSpace = Literal["centred", "logit"]
"""Scale v of the pixel values inside the flows. centred: v = x/256 − ½. logit: v = logit(α/2 + (1 − α) x/256)."""

CELLS = 256
"""Number of dequantization intervals, one for each integer pixel value."""
ALPHA = 1e-5
"""α of the logit scale. It keeps the logit finite at both ends of the pixel values."""
MIDPOINT = 0.5
"""Position of the middle of an interval."""


class CentredPixels(Bijection):
    """Centred scale: v = x/256 − ½. With a condition, the scale of differences: v = (x − condition − ½)/256."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        shift = CELLS / 2 if condition is None else condition + MIDPOINT
        return (x - shift) / CELLS, _constant(x, -math.log(CELLS))

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        shift = CELLS / 2 if condition is None else condition + MIDPOINT
        return z * CELLS + shift, _constant(z, math.log(CELLS))


KNOWN_GAIN = 96.0
"""Factor on the differences of known values. Their positions in the intervals of dequantization, which are uniform
noise, so get a deviation of 0.1, which is typical of the differences of values that are not known."""


class KnownPixels(Bijection):
    """Scale of differences where some values are known: `CentredPixels`, with known values multiplied by `KNOWN_GAIN`.

    The condition, (B, 6, H, W), is the prediction, which for known values is the value itself, and 1 where a value is
    known, otherwise 0. So the flows see noise of one strength in place of the values that are known.
    """

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, gain, log_det = self._parts(condition)
        return (x - mean - MIDPOINT) * gain, log_det

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, gain, log_det = self._parts(condition)
        return z / gain + mean + MIDPOINT, -log_det

    def _parts(self, condition: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        mean, known = cast(Tensor, condition).chunk(2, 1)
        log_gains = log_gain(known)
        return mean, log_gains.exp(), log_gains.sum((1, 2, 3))


def log_gain(known: Tensor) -> Tensor:
    """Return the logarithm of the factor of `KnownPixels` for each value: (B, 3, H, W) in nats."""
    return known * math.log(KNOWN_GAIN) - math.log(CELLS)


class LogitPixels(Bijection):
    """Logit scale: v = logit(α/2 + (1 − α) x/256) with α = 1e-5."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        v, log_det = scaled_logit(x / CELLS)
        return v, log_det + _constant(x, -math.log(CELLS))

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = (sigmoid(z) - ALPHA / 2) * (CELLS / (1 - ALPHA))
        constant = math.log(CELLS) - math.log1p(-ALPHA)
        return x, _log_sigmoid_slope(z) + _constant(z, constant)


class ReferenceLogitPixels(LogitPixels):
    """Logit scale with the inverse of the public implementation, x = 256 sigmoid(v), which is not exact."""

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return CELLS * sigmoid(z), _log_sigmoid_slope(z) + _constant(z, math.log(CELLS))


def pixel_space(name: PixelSpace, reference: bool = False) -> Bijection:
    """Return the map from continuous pixel values to the scale of the flows.

    Arguments:
        reference: whether to use the inexact inverse of the public implementation on the logit scale.
    """
    if name == "centred":
        return CentredPixels()
    return ReferenceLogitPixels() if reference else LogitPixels()


class UniformDequantizer(nn.Module):
    """Uniform dequantization: x = w + u."""

    def forward(self, w: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return x for integers w (B, C, H, W) in 0…255 and u in (0, 1), and −log q(x | w), (B,) in nats, here 0."""
        return w + u, w.new_zeros(w.shape[0])


class VariationalDequantizer(nn.Module):
    """Variational dequantization: a flow f computes the position in the interval (Ho et al., "Flow++", 2019).

    x = w + sigmoid(f(logit(u); w)). f consists of `steps` of ActNorm, invertible 1×1 convolution and a coupling that is
    conditioned on w/127.5 − 1.
    """

    def __init__(self, channels: int, steps: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for _ in range(steps):
            self.layers += [TransitionStep(channels), AffineCoupling(channels, width, condition_channels=channels)]

    def forward(self, w: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return x for integers w (B, C, H, W) in 0…255 and u in (0, 1), and −log q(x | w), (B,) in nats."""
        condition = w / ((CELLS - 1) / 2) - 1
        v, log_det = scaled_logit(u)
        for layer in self.layers:
            v, layer_log_det = layer(v, condition)
            log_det = log_det + layer_log_det
        return w + sigmoid(v), log_det + _log_sigmoid_slope(v)


def scaled_logit(v: Tensor) -> tuple[Tensor, Tensor]:
    """Return logit(α/2 + (1 − α) v) for v (B, C, H, W) in [0, 1], and log |det| of this map, (B,) in nats."""
    v = ALPHA / 2 + (1 - ALPHA) * v
    slope = -(torch.log(v) + torch.log1p(-v)).sum((1, 2, 3))
    return torch.logit(v), slope + _constant(v, math.log1p(-ALPHA))


def sigmoid(v: Tensor) -> Tensor:
    """Return the logistic function of v, with a small relative error also for strongly negative v.

    The formula uses softplus, because ONNX Runtime's Sigmoid on the CPU is an approximation. Its error is 1e-7 near 0,
    and it returns 0 for v below −18.
    """
    return torch.exp(-F.softplus(-v))


def log_sigmoid_slope(v: Tensor) -> Tensor:
    """Return the logarithm of the derivative of `sigmoid` at v, for each element, in nats.

    The formula uses softplus, because exporters convert logsigmoid to Log(Sigmoid), which is inexact: see `sigmoid`.
    """
    return -(F.softplus(v) + F.softplus(-v))


def _log_sigmoid_slope(v: Tensor) -> Tensor:
    return log_sigmoid_slope(v).sum((1, 2, 3))


def _constant(x: Tensor, per_value: float) -> Tensor:
    return x.new_full((x.shape[0],), per_value * x[0].numel())
