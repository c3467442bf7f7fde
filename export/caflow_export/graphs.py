"""The graphs of a bundle as PyTorch modules, one per level and direction.

`docs/reference/bundle.md` specifies the graphs with their inputs and outputs. Each graph of a level also returns a
log-likelihood map, (R, h, w), in nats, so a sample needs no second pass for its likelihood.

* An item is a pair of an image and a sample. The input `image`, (R,) int64, is the index of each item's image.
* Terms are the outputs of `encode` for one level, with one entry per image. Graphs select the entries by `image`.
* `passing` is the tensor that blocks of the conditional flow hand over from one level to the next.
* `carry` is the tensor that levels of the target flow hand over: an intermediate image.
"""

import copy
import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caflow_export.conditional_level import ConditionalLevel
from caflow_export.levels import DequantizerMidpoint, FlowLevel, Precision
from caflow_training.bijections import Chain
from caflow_training.degradation_estimator import DegradationEstimator
from caflow_training.dequantization import (
    ALPHA,
    CELLS,
    MIDPOINT,
    CentredPixels,
    KnownPixels,
    VariationalDequantizer,
    log_gain,
    log_sigmoid_slope,
)
from caflow_training.model import CHANNELS, CAFlow, with_known
from caflow_training.tasks import Task


class Encode(nn.Module):
    """Graph `encode`: computes from the conditions, (B, h, w, 3 or 4) uint8, all values that depend on them only.

    The outputs are the prepared condition, the mean if the model has a mean network, and the terms of each level. The
    degradation, (B, 13), is an input of models that are told of it, and None for others.
    """

    def __init__(self, model: CAFlow, levels: list[ConditionalLevel], precision: Precision) -> None:
        super().__init__()
        self.task = model.config.task
        self.state = precision.state
        self.dequantizer = _dequantizer(model.condition_dequantizer, precision)
        self.pixels = model.condition_pixels
        self.flow = nn.ModuleList(FlowLevel(cast(Chain, level), precision) for level in model.condition_flow.levels)
        self.levels = nn.ModuleList(levels)
        self.mean = None if model.mean_network is None else copy.deepcopy(model.mean_network).to(precision.network)

    def forward(self, condition: Tensor, degradation: Tensor | None = None) -> tuple[Tensor, ...]:
        planes = condition.to(self.state).permute(0, 3, 1, 2)
        prepared = self.task.prepare(planes)
        out = [prepared.permute(0, 2, 3, 1).to(torch.uint8)]
        features: list[Tensor] = []
        if self.mean is not None:
            difference, features = self.mean(self.task.seen(planes, prepared), degradation)
            mean = with_known(prepared + difference, prepared, self.task.known(planes))
            out.append(mean.permute(0, 2, 3, 1))
        x = prepared + MIDPOINT if self.dequantizer is None else self.dequantizer(prepared)[0]
        x, _ = self.pixels(x)
        terms: list[tuple[Tensor, ...]] = []
        for j in reversed(range(len(self.levels))):
            x, _ = self.flow[j](x)
            latent, x = x.chunk(2, 1) if j > 0 else (x, x)
            terms.append(cast(ConditionalLevel, self.levels[j]).encode(latent, features[j] if features else None))
        return (*out, *(term for level in reversed(terms) for term in level))


class Estimate(nn.Module):
    """Graph `estimate`: estimates how conditions, (B, h, w, 3) uint8 RGB, were degraded. It returns (B, 13)."""

    def __init__(self, model: CAFlow, estimator: DegradationEstimator, precision: Precision) -> None:
        super().__init__()
        self.task = model.config.task
        self.state = precision.state
        self.estimator = copy.deepcopy(estimator).to(precision.state)

    def forward(self, condition: Tensor) -> Tensor:
        planes = condition.to(self.state).permute(0, 3, 1, 2)
        seen = self.task.seen(planes, self.task.prepare(planes))
        return cast(Tensor, self.estimator(seen)).clamp(0, 1)


class Degrade(nn.Module):
    """Graph `degrade`: makes the conditions again that results, (B, H, W, 3) float32 pixel values 0…255, would have.

    The output, (B, h, w, 3), is not rounded. The conditions are an input only of tasks whose degradation is random.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(self, target: Tensor, condition: Tensor | None = None) -> Tensor:
        planes = target.permute(0, 3, 1, 2)
        degraded = self.task.repeat_degradation(planes, planes if condition is None else condition.permute(0, 3, 1, 2))
        assert degraded is not None
        return degraded.permute(0, 2, 3, 1)


class Decode(nn.Module):
    """Graph `decode_j`: maps noise to L[j], and returns `passing` for level j + 1."""

    def __init__(self, level: ConditionalLevel) -> None:
        super().__init__()
        self.level = level

    def forward(self, z: Tensor, passing: Tensor | None, image: Tensor, *terms: Tensor) -> tuple[Tensor, ...]:
        return self.level.inverse(z, passing, tuple(term.index_select(0, image) for term in terms))


class Likelihood(nn.Module):
    """Graph `likelihood_j`: maps L[j] to noise, and returns `passing` for level j − 1."""

    def __init__(self, level: ConditionalLevel) -> None:
        super().__init__()
        self.level = level

    def forward(self, latent: Tensor, passing: Tensor | None, image: Tensor, *terms: Tensor) -> tuple[Tensor, ...]:
        return cast(
            tuple[Tensor, ...], self.level(latent, passing, tuple(term.index_select(0, image) for term in terms))
        )


class Reverse(nn.Module):
    """Graph `reverse_j`: maps L[j] and the carry to a carry of twice the width and height.

    At the finest level the output is pixel values, (R, H, W, 3) float32.
    """

    def __init__(self, level: FlowLevel, pixels: "Pixels | None") -> None:
        super().__init__()
        self.level = level
        self.pixels = pixels

    def forward(
        self, latent: Tensor, carry: Tensor | None, mean: Tensor | None = None, image: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        out, log_likelihood = self.level.inverse(latent if carry is None else torch.cat([latent, carry], 1))
        if self.pixels is None:
            return out, log_likelihood
        pixels, pixel_log_det = self.pixels.inverse(out, _by_item(mean, image, out.dtype))
        return pixels.permute(0, 2, 3, 1), log_likelihood + pixel_log_det


class Forward(nn.Module):
    """Graph `forward_j`: maps the carry to L[j] and a carry of half the width and height.

    At the finest level the input is pixel values, (R, H, W, 3) float32.
    """

    def __init__(self, level: FlowLevel, pixels: "Pixels | None", splits: bool) -> None:
        super().__init__()
        self.level = level
        self.pixels = pixels
        self.splits = splits

    def forward(self, x: Tensor, mean: Tensor | None = None, image: Tensor | None = None) -> tuple[Tensor, ...]:
        pixel_log_det: Tensor | float = 0.0
        if self.pixels is not None:
            v = x.permute(0, 3, 1, 2)
            x, pixel_log_det = self.pixels(v, _by_item(mean, image, v.dtype))
        latent, log_likelihood = self.level(x)
        log_likelihood = log_likelihood + pixel_log_det
        return (*latent.chunk(2, 1), log_likelihood) if self.splits else (latent, log_likelihood)


class Pixels(nn.Module):
    """Map from continuous pixel values to the space of the flow, and its inverse.

    Both directions also return the log-determinant of `forward` as a map over 2×2 patches, (R, H/2, W/2), in nats.
    `mean`, (R, 3, H, W), is the prediction that is subtracted from the target, with three more channels if values of
    the target are known; None if the model has no residual.
    """

    def __init__(self, model: CAFlow) -> None:
        super().__init__()
        self.space = model.target_pixels
        self.is_centred = isinstance(self.space, CentredPixels)
        self.reference = model.config.reference

    def forward(self, x: Tensor, mean: Tensor | None) -> tuple[Tensor, Tensor]:
        v, _ = self.space(x, mean)
        return v, self._log_det(v, mean)

    def inverse(self, v: Tensor, mean: Tensor | None) -> tuple[Tensor, Tensor]:
        x, _ = self.space.inverse(v, mean)
        constant = 4 * CHANNELS * math.log1p(-ALPHA) if self.reference else 0.0
        return x, self._log_det(v, mean) - constant

    def _log_det(self, v: Tensor, mean: Tensor | None) -> Tensor:
        if isinstance(self.space, KnownPixels):
            assert mean is not None
            return F.pixel_unshuffle(log_gain(mean[:, CHANNELS:]), 2).sum(1)
        constant = -4 * CHANNELS * math.log(CELLS)
        if self.is_centred:
            return (0.0 * v[:, 0, ::2, ::2]) + constant
        slope = math.log1p(-ALPHA) - log_sigmoid_slope(v)
        return F.pixel_unshuffle(slope, 2).sum(1) + constant


class Dequantize(nn.Module):
    """Graph `dequantize`: the variational dequantizer, from integers, (R, H, W, 3) uint8, to continuous pixel values.

    The log-likelihood map is −log q, (R, H, W), in nats.
    """

    def __init__(self, dequantizer: DequantizerMidpoint, precision: Precision) -> None:
        super().__init__()
        self.dequantizer = dequantizer
        self.state = precision.state

    def forward(self, integers: Tensor) -> tuple[Tensor, Tensor]:
        x, log_likelihood = self.dequantizer(integers.to(self.state).permute(0, 3, 1, 2))
        return x.permute(0, 2, 3, 1), log_likelihood


class ToImage(nn.Module):
    """Graph `to_image`: rounds pixel values, (R, H, W, 3) float32, down to uint8, clamped to 0…255."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.floor().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class ModelGraphs:
    """All graphs of one model. Each list has one graph per level, level 0 first."""

    encode: Encode
    estimate: Estimate | None
    decode: list[Decode]
    reverse: list[Reverse]
    forward: list[Forward]
    likelihood: list[Likelihood]
    dequantize: Dequantize | None
    degrade: Degrade | None

    @classmethod
    def of(cls, model: CAFlow, precision: Precision) -> "ModelGraphs":
        """Cut a model into graphs. The sampling and scoring graphs of a level share their networks."""
        n = model.config.levels
        levels = [ConditionalLevel(model, j, precision) for j in range(n)]
        flow = [FlowLevel(cast(Chain, level), precision) for level in model.target_flow.levels]
        pixels = Pixels(model)
        dequantizer = _dequantizer(model.target_dequantizer, precision)
        estimator = model.degradation_estimator
        return cls(
            encode=Encode(model, levels, precision),
            estimate=None if estimator is None else Estimate(model, estimator, precision),
            decode=[Decode(level) for level in levels],
            reverse=[Reverse(level, pixels if j == n - 1 else None) for j, level in enumerate(flow)],
            forward=[Forward(level, pixels if j == n - 1 else None, j > 0) for j, level in enumerate(flow)],
            likelihood=[Likelihood(level) for level in levels],
            dequantize=None if dequantizer is None else Dequantize(dequantizer, precision),
            degrade=_degrade(model),
        )


def _dequantizer(dequantizer: nn.Module, precision: Precision) -> DequantizerMidpoint | None:
    """Return the midpoint form of a variational dequantizer, or None for the uniform dequantizer, which is w + ½."""
    return DequantizerMidpoint(dequantizer, precision) if isinstance(dequantizer, VariationalDequantizer) else None


@torch.no_grad()
def _degrade(model: CAFlow) -> Degrade | None:
    """Return the graph that repeats the degradation, or None if the task cannot repeat it."""
    task, side = model.config.task, model.config.task.scale
    target, condition = (torch.zeros(1, n, side, side) for n in (CHANNELS, task.condition_channels))
    return None if task.repeat_degradation(target, condition) is None else Degrade(task)


def _by_item(mean: Tensor | None, image: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Return the prediction of each item's target, (R, 3, H, W), or None if the model has no residual.

    `mean`, (B, H, W, 3), is the prediction for each image: the output of the mean network or, without a mean network,
    the prepared condition in uint8. Its type is converted first, because TensorRT supports no other operation on uint8.
    """
    if mean is None or image is None:
        return None
    return mean.to(dtype).index_select(0, image).permute(0, 3, 1, 2)
