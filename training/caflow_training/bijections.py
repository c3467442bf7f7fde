"""Invertible layers of CAFLOW.

Every layer is a `Bijection`, whose docstring describes arguments and return values. Equation numbers are those of the
paper: Batzolis, Carioni, Etmann, Afyouni, Kourtzi, Schönlieb, "CAFLOW: Conditional Autoregressive Flows",
arXiv:2106.02531.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# |log-scale| of an affine layer is below bound · 0.636 · π/2 ≈ bound. So the inverse never divides by a scale near 0.
LOG_SCALE_BOUND = 2.0
ATAN_GAIN = 0.636

# ActNorm centres a channel with a standard deviation below this value, but does not scale it.
CONSTANT_CHANNEL_STD = 1e-6


class Bijection(nn.Module):
    """Invertible map of images with a known Jacobian determinant.

    `forward` maps data towards noise, and `inverse` maps noise towards data. Both work at any height and width.

    Arguments of both:
        x, z: input, (B, C, H, W), floating point.
        condition: (B, C', H', W'), at the resolution at which the layer's networks run, or None for layers without a
            condition.

    Returns of both: the output, and `log_det`, (B,): log |det ∂output/∂input| in nats. The two directions are inverse
    to each other, and their log-determinants add up to 0 (eq. 2 and 4).
    """

    @abstractmethod
    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data to noise."""

    @abstractmethod
    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map noise to data."""


class Chain(Bijection):
    """Sequence of bijections that all get the same condition."""

    def __init__(self, layers: Iterable[Bijection]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = x.new_zeros(x.shape[0])
        for layer in self.layers:
            x, layer_log_det = layer(x, condition)
            log_det = log_det + layer_log_det
        return x, log_det

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = z.new_zeros(z.shape[0])
        for layer in reversed(self.layers):
            z, layer_log_det = cast(Bijection, layer).inverse(z, condition)
            log_det = log_det + layer_log_det
        return z, log_det


class Squeeze(Bijection):
    """Squeeze from (B, C, H, W) to (B, 4C, H/2, W/2). Each 2×2 patch of a channel becomes four adjacent channels."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        # Use the memory format of the networks: see AffineNetwork.
        z = F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
        return z, x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.pixel_shuffle(z, 2), z.new_zeros(z.shape[0])


class ReferenceSqueeze(Bijection):
    """Squeeze of the public implementation: each 2×2 patch of a channel is multiplied by a stored 4×4 kernel.

    Used for imported models only. The public implementation stores the kernels, initially identity matrices, in its
    checkpoints as weights that are not trained. Its inverse multiplies by the transposed kernel, and its
    log-determinant is 0, for any kernel. So both are exact for orthogonal kernels only.
    """

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("kernel", torch.eye(4).repeat(channels, 1).reshape(4 * channels, 1, 2, 2))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.conv2d(x, self.kernel, stride=2, groups=self.channels), x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.conv_transpose2d(z, self.kernel, stride=2, groups=self.channels), z.new_zeros(z.shape[0])


class ActNorm(Bijection):
    """Affine map of each channel: z = exp(log_scale) · x + bias (Kingma and Dhariwal, "Glow", 2018, §3.1).

    A new layer is the identity. `initialize` sets scale and bias from data.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set scale and bias so that the output for `x` (B, C, H, W) has mean 0 and variance 1 in each channel."""
        deviation, mean = torch.std_mean(x.double(), dim=(0, 2, 3))
        scale = torch.where(deviation > CONSTANT_CHANNEL_STD, 1 / deviation, 1.0)
        self.log_scale.copy_(scale.log())
        self.bias.copy_(-mean * scale)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = x * _per_channel(self.log_scale.exp()) + _per_channel(self.bias)
        return z, self._log_det(x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = (z - _per_channel(self.bias)) * _per_channel((-self.log_scale).exp())
        return x, -self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.log_scale.sum() * _positions(x)).expand(x.shape[0])


class InvertibleConv1x1(Bijection):
    """Product z = W x at every position (Kingma and Dhariwal, "Glow", 2018, §3.2).

    W is a full matrix. It is initialized as a random orthogonal matrix.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels)).Q)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.conv2d(x, self.weight[:, :, None, None]), self._log_det(x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.conv2d(z, self.inverse_weight()[:, :, None, None]), -self._log_det(z)

    def inverse_weight(self) -> Tensor:
        """Return W⁻¹, (C, C) in the type of W. The inverse is computed in float64."""
        inverse: Tensor = torch.linalg.inv(self.weight.double())
        return inverse.to(self.weight.dtype)

    def log_det_per_position(self) -> Tensor:
        """Return log |det W|, a scalar in nats."""
        log_det: Tensor = torch.linalg.slogdet(self.weight).logabsdet
        return log_det

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.log_det_per_position() * _positions(x)).expand(x.shape[0])


class TransitionStep(Bijection):
    """ActNorm followed by an invertible 1×1 convolution (Appendix A.1), computed as one convolution.

    A single convolution halves the passes over the activations, and the memory that is kept for the gradient.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ActNorm(channels)
        self.conv = InvertibleConv1x1(channels)

    def initialize(self, x: Tensor) -> None:
        """Initialize the ActNorm from the layer's input `x`, (B, C, H, W)."""
        self.norm.initialize(x)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        weight = self.conv.weight * self.norm.log_scale.exp()
        bias = self.conv.weight @ self.norm.bias
        return F.conv2d(x, weight[:, :, None, None], bias), self._log_det(x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        inverse_scale = (-self.norm.log_scale).exp()
        weight = self.conv.inverse_weight() * inverse_scale[:, None]
        bias = -self.norm.bias * inverse_scale
        return F.conv2d(z, weight[:, :, None, None], bias), -self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        per_position = self.norm.log_scale.sum() + self.conv.log_det_per_position()
        return (per_position * _positions(x)).expand(x.shape[0])


class AffineNetwork(nn.Module):
    """Network of couplings and injectors: convolutions 3×3, 1×1 and 3×3, with ReLU between them (Appendix A.1).

    From (B, in_channels, H, W) it computes log-scales and shifts, each (B, out_channels, H, W) in the type of the
    input. The last convolution is initialized with 0, so every new affine layer is the identity.

    `dtype` is the type in which the convolutions compute: torch.bfloat16, torch.float16, or None for the input's type.
    `log_scale_bound` is an upper bound on the absolute values of the log-scales.
    """

    def __init__(self, in_channels: int, width: int, out_channels: int) -> None:
        super().__init__()
        self.dtype: torch.dtype | None = None
        self.log_scale_bound = LOG_SCALE_BOUND
        self.first = nn.Conv2d(in_channels, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 1)
        self.last = nn.Conv2d(width, 2 * out_channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(cast(Tensor, self.last.bias))
        # With channels innermost in memory, a training step on a CPU takes 15 % less time
        # (benchmarks/training.py).
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype is not None):
            h = F.relu(self.first(x), inplace=True)
            h = F.relu(self.middle(h), inplace=True)
            h = self.last(h)
        raw_log_scale, shift = h.to(x.dtype).chunk(2, dim=1)
        return bounded_log_scale(raw_log_scale, self.log_scale_bound), shift


class AffineCoupling(Bijection):
    """Affine coupling (eq. 3 and 5). The first half of the channels stays unchanged.

    The second half is scaled and shifted. A network computes the scales and shifts from the first half and the
    condition.
    """

    def __init__(self, channels: int, width: int, condition_channels: int = 0) -> None:
        super().__init__()
        self.kept = channels // 2
        self.changed = channels - self.kept
        self.network = AffineNetwork(self.kept + condition_channels, width, self.changed)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        kept, changed = x.split([self.kept, self.changed], dim=1)
        log_scale, shift = self.network(_join(kept, condition))
        changed = torch.addcmul(shift, changed, log_scale.exp())
        return torch.cat([kept, changed], 1), log_scale.sum((1, 2, 3))

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        kept, changed = z.split([self.kept, self.changed], dim=1)
        log_scale, shift = self.network(_join(kept, condition))
        changed = (changed - shift) * (-log_scale).exp()
        return torch.cat([kept, changed], 1), -log_scale.sum((1, 2, 3))


class AffineInjector(Bijection):
    """Affine injector (§2.2; Lugmayr et al., "SRFlow", 2020).

    All channels are scaled and shifted. A network computes the scales and shifts from the condition alone.
    """

    def __init__(self, channels: int, width: int, condition_channels: int) -> None:
        super().__init__()
        self.network = AffineNetwork(condition_channels, width, channels)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.network(condition)
        return torch.addcmul(shift, x, log_scale.exp()), log_scale.sum((1, 2, 3))

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.network(condition)
        return (z - shift) * (-log_scale).exp(), -log_scale.sum((1, 2, 3))


def initialize_actnorm(module: nn.Module, run: Callable[[], object]) -> None:
    """Initialize every ActNorm inside `module`, in the order of execution, from its input during a call of `run`."""

    def from_input(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        cast(ActNorm | TransitionStep, layer).initialize(inputs[0])

    layers = [layer for layer in module.modules() if isinstance(layer, ActNorm | TransitionStep)]
    handles = [layer.register_forward_pre_hook(from_input) for layer in layers]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()


def bounded_log_scale(raw: Tensor, bound: float) -> Tensor:
    """Map the raw output of a network to log-scales between −bound and bound."""
    return bound * ATAN_GAIN * torch.atan(raw)


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Split the channels into two halves, and return both.

    The first half becomes a latent. The flow processes the second half further.
    """
    latent, rest = x.chunk(2, dim=1)
    return latent, rest


def join(latent: Tensor, rest: Tensor) -> Tensor:
    """Join the two halves that `split` returns."""
    return torch.cat([latent, rest], dim=1)


def _join(kept: Tensor, condition: Tensor | None) -> Tensor:
    return kept if condition is None else torch.cat([kept, condition], dim=1)


def _per_channel(vector: Tensor) -> Tensor:
    return vector[:, None, None]


def _positions(x: Tensor) -> int:
    return x.shape[2] * x.shape[3]
