"""The invertible layers of CAFLOW.

Every layer is a `Bijection`; the contract is stated there once. Equation numbers are the paper's: Batzolis,
Carioni, Etmann, Afyouni, Kourtzi, Schönlieb, "CAFLOW: Conditional Autoregressive Flows", arXiv:2106.02531.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# |log scale| of an affine layer stays below its bound · 0.636 · π/2, so that no inverse divides by almost nothing.
LOG_SCALE_BOUND = 2.0
ATAN_GAIN = 0.636

# A channel whose standard deviation is below this is constant: it is centred, not scaled.
CONSTANT_CHANNEL_STD = 1e-6


class Bijection(nn.Module):
    """An invertible map of images with a known Jacobian determinant.

    `forward` maps data towards noise, `inverse` maps noise towards data; both work at any height and width.

    Arguments of both:
        x, z: (B, C, H, W) floating point.
        condition: (B, C', H', W') of the same resolution as the layer's networks see, or None where the layer
            takes none.

    Returns of both: the image of the map, and `log_det`, (B,): log |det ∂output/∂input| in nats, so that
    `inverse(forward(x))` returns x and log-determinants that cancel (eq. 2 and 4).
    """

    @abstractmethod
    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to noise."""

    @abstractmethod
    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise to data."""


class Chain(Bijection):
    """Bijections one after the other; all are given the same condition."""

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
    """(B, C, H, W) to (B, 4C, H/2, W/2): each 2×2 patch becomes channels, the four of one channel side by side."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        # The memory format of the networks: see AffineNetwork.
        z = F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
        return z, x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.pixel_shuffle(z, 2), z.new_zeros(z.shape[0])


class ReferenceSqueeze(Bijection):
    """The public implementation's squeeze: each 2×2 patch of a channel times a stored 4×4 kernel.

    It writes the kernels, all the identity, into its checkpoints as weights that are not trained. Its way back is the
    transposed kernel and its log-determinant 0, whatever the file holds; so it is here, for imported models alone.
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
    """z = exp(log_scale) · x + bias per channel (Kingma and Dhariwal, "Glow", 2018, §3.1).

    Starts as the identity; `initialize` sets it from data.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Make the output of `x` (B, C, H, W) zero-mean and of unit variance per channel."""
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
    """z = W x at every position (Kingma and Dhariwal, "Glow", 2018, §3.2). W is a full matrix, orthogonal at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels)).Q)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.conv2d(x, self.weight[:, :, None, None]), self._log_det(x)

    def inverse(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return F.conv2d(z, self.inverse_weight()[:, :, None, None]), -self._log_det(z)

    def inverse_weight(self) -> Tensor:
        """W⁻¹, (C, C): inverted in float64 whatever the type of W."""
        inverse: Tensor = torch.linalg.inv(self.weight.double())
        return inverse.to(self.weight.dtype)

    def log_det_per_position(self) -> Tensor:
        """log |det W|, a scalar in nats."""
        log_det: Tensor = torch.linalg.slogdet(self.weight).logabsdet
        return log_det

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.log_det_per_position() * _positions(x)).expand(x.shape[0])


class TransitionStep(Bijection):
    """ActNorm, then the invertible 1×1 convolution (Appendix A.1), computed as one convolution.

    One pass over the activation instead of two, and half the memory kept for the gradient.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ActNorm(channels)
        self.conv = InvertibleConv1x1(channels)

    def initialize(self, x: Tensor) -> None:
        """Set the ActNorm from the data `x`, (B, C, H, W)."""
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
    """The network inside couplings and injectors: convolutions 3×3, 1×1, 3×3 with ReLU between (Appendix A.1).

    (B, in_channels, H, W) to log-scales and shifts, each (B, out_channels, H, W) in the type of the input. The last
    convolution starts at zero, so that every affine layer starts as the identity. `dtype` is the type in which the
    convolutions run (torch.bfloat16, torch.float16, or None for the input's own); `log_scale_bound` is the largest
    absolute value that a log-scale can reach.
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
        # Channels innermost in memory: a training step on a CPU then takes 15 % less (benchmarks/training_step.py).
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype is not None):
            h = F.relu(self.first(x), inplace=True)
            h = F.relu(self.middle(h), inplace=True)
            h = self.last(h)
        raw_log_scale, shift = h.to(x.dtype).chunk(2, dim=1)
        return bounded_log_scale(raw_log_scale, self.log_scale_bound), shift


class AffineCoupling(Bijection):
    """The second half of the channels, scaled and shifted by what the first half and the condition say (eq. 3, 5)."""

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
    """Every channel is scaled and shifted by what the condition alone says (§2.2; Lugmayr et al., "SRFlow", 2020)."""

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
    """Initialise every ActNorm inside `module` from the data that reaches it while `run()` runs, in order."""

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
    """A network's raw output as a log-scale between −bound and bound."""
    return bound * ATAN_GAIN * torch.atan(raw)


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """The channels' first half, which leaves the flow as a latent, and the second half, which goes on."""
    latent, rest = x.chunk(2, dim=1)
    return latent, rest


def join(latent: Tensor, rest: Tensor) -> Tensor:
    """The inverse of `split`."""
    return torch.cat([latent, rest], dim=1)


def _join(kept: Tensor, condition: Tensor | None) -> Tensor:
    return kept if condition is None else torch.cat([kept, condition], dim=1)


def _per_channel(vector: Tensor) -> Tensor:
    return vector[:, None, None]


def _positions(x: Tensor) -> int:
    return x.shape[2] * x.shape[3]
