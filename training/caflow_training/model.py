"""CAFLOW: p(target | condition) as two image flows and a conditional flow between their latents (paper, §4)."""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from caflow_training.bijections import AffineNetwork
from caflow_training.conditional_flow import BlockSettings, ConditionalFlow, Latents
from caflow_training.config import CAFlowConfig
from caflow_training.dequantization import (
    MIDPOINT,
    UniformDequantizer,
    VariationalDequantizer,
    pixel_space,
)
from caflow_training.image_flow import ImageFlow
from caflow_training.mean_network import MeanNetwork

CHANNELS = 3


@dataclass(frozen=True)
class LogLikelihood:
    """log p(target | condition) by parts (eq. 9), each (B, n) in nats, level 0 the coarsest.

    The constants of dequantization and pixel scaling are in `target_log_det` of the finest level.
    """

    prior: Tensor
    """log N(z[i, j]; 0, I), summed over i."""
    conditional_log_det: Tensor
    """Of the blocks g[i][j], summed over i."""
    target_log_det: Tensor
    """Of the target flow."""

    @property
    def per_level(self) -> Tensor:
        """(B, n)."""
        return self.prior + self.conditional_log_det + self.target_log_det

    @property
    def total(self) -> Tensor:
        """(B,)."""
        return self.per_level.sum(1)


@dataclass(frozen=True)
class Encoded:
    """All that follows from the condition alone; computed once per image, however many samples are drawn."""

    prepared: Tensor
    """(B, 3, H, W), the condition at the target's size, integers."""
    latents: list[Tensor]
    """D, coarsest first."""
    log_prob: Tensor
    """log p(condition), (B,) in nats."""
    mean: Tensor | None
    """(B, 3, H, W), what the target is modelled as a residual to, in pixel values; None where it is no residual."""
    features: list[Tensor] | None
    """Of the mean network, one per level, where the model has them."""

    def rows(self, index: Tensor) -> "Encoded":
        """The conditions that `index`, (R,) int64, names, in that order."""
        return Encoded(
            self.prepared[index],
            [latent[index] for latent in self.latents],
            self.log_prob[index],
            None if self.mean is None else self.mean[index],
            None if self.features is None else [level[index] for level in self.features],
        )


@dataclass(frozen=True)
class Sample:
    """What `CAFlow.sample` draws."""

    images: Tensor
    """(B, 3, H, W), continuous pixel values; a trained model's are within [0, 256). `to_integers` rounds them."""
    log_likelihood: LogLikelihood
    """log p at these continuous points, from the sampling pass itself."""


class CAFlow(nn.Module):
    """A conditional autoregressive flow.

    Conditions are as a user has them, (B, 3, h, w) with values 0…255 of any real type (for super-resolution the
    small image): the model prepares them. Targets are (B, 3, H, W), H = scale · h. Places in the dequantization cells,
    `target_u` and `condition_u`, are of the target's shape and in (0, 1); by default the middle, which makes scores
    deterministic.
    """

    def __init__(self, config: CAFlowConfig) -> None:
        super().__init__()
        self.config = config

        def image_flow(steps: int) -> ImageFlow:
            return ImageFlow(
                CHANNELS, config.levels, steps, config.image_width, config.image_transition_steps, config.reference
            )

        def dequantizer() -> UniformDequantizer | VariationalDequantizer:
            if config.dequantization_steps is None:
                return UniformDequantizer()
            return VariationalDequantizer(CHANNELS, config.dequantization_steps, config.image_width)

        self.condition_dequantizer = dequantizer()
        self.target_dequantizer = dequantizer()
        self.condition_pixels = pixel_space(config.pixels, config.reference)
        self.target_pixels = pixel_space(config.pixels, config.reference)
        self.condition_flow = image_flow(config.condition_steps)
        self.target_flow = image_flow(config.target_steps)
        self.conditional_flow = ConditionalFlow(
            CHANNELS,
            config.levels,
            config.own_steps,
            config.cross_steps,
            BlockSettings(
                config.conditional_width, config.conditional_transition_steps, config.mean_features, config.reference
            ),
            config.dependencies,
        )
        self.mean_network = (
            MeanNetwork(
                CHANNELS,
                config.task.scale,
                config.mean_blocks,
                config.mean_width,
                [config.mean_features] * config.levels if config.mean_features else [],
            )
            if config.mean_blocks
            else None
        )
        for module in self.modules():
            if isinstance(module, AffineNetwork):
                module.log_scale_bound = config.log_scale_bound

    def prepare(self, condition: Tensor) -> Tensor:
        """The condition at the target's size, integers in the model's type.

        Raises:
            ValueError: if its shape does not fit the model.
        """
        config = self.config
        multiple = config.size_multiple // config.task.scale
        if condition.ndim != 4 or condition.shape[1] != CHANNELS or any(n % multiple for n in condition.shape[2:]):
            raise ValueError(
                f"wanted a condition of shape (B, {CHANNELS}, h, w) with h and w multiples of {multiple}, got "
                f"{tuple(condition.shape)}: crop or pad it."
            )
        return config.task.prepare(condition.to(next(self.parameters()).dtype))

    def encode_condition(self, prepared: Tensor, condition_u: Tensor | float = MIDPOINT) -> tuple[list[Tensor], Tensor]:
        """Prepared condition (B, 3, H, W) to its latents D, coarsest first, and log p(condition), (B,) in nats."""
        x, dequantizer_term = self.condition_dequantizer(prepared, _places(condition_u, prepared))
        v, pixel_log_det = self.condition_pixels(x)
        latents, log_dets = self.condition_flow(v)
        prior = torch.stack([standard_normal_log_prob(latent) for latent in latents]).sum(0)
        return latents, dequantizer_term + pixel_log_det + log_dets.sum(1) + prior

    def encode(self, condition: Tensor, condition_u: Tensor | float = MIDPOINT) -> Encoded:
        """Everything that follows from the condition, (B, 3, h, w), alone.

        Raises:
            ValueError: if its shape does not fit the model.
        """
        prepared = self.prepare(condition)
        latents, log_prob = self.encode_condition(prepared, condition_u)
        mean, features = self.predict(condition, prepared)
        return Encoded(prepared, latents, log_prob, mean, features)

    def predict(self, condition: Tensor, prepared: Tensor) -> tuple[Tensor | None, list[Tensor] | None]:
        """`mean` and `features` of `Encoded`."""
        if not self.config.residual:
            return None, None
        if self.mean_network is None:
            return prepared, None
        # A condition of the target's size may hold more than the model is to know, such as colours.
        seen = prepared if self.config.task.scale == 1 else condition.to(prepared.dtype)
        difference, features = self.mean_network(seen)
        return prepared + difference, features if self.config.mean_features else None

    def log_prob(
        self,
        target: Tensor,
        condition: Tensor,
        target_u: Tensor | float = MIDPOINT,
        condition_u: Tensor | float = MIDPOINT,
    ) -> LogLikelihood:
        """log p(target | condition) of integer targets: eq. 9, with one place per cell standing for the cell."""
        likelihood, _ = self.log_joint(target, condition, target_u, condition_u)
        return likelihood

    def log_joint(
        self,
        target: Tensor,
        condition: Tensor,
        target_u: Tensor | float = MIDPOINT,
        condition_u: Tensor | float = MIDPOINT,
    ) -> tuple[LogLikelihood, Tensor]:
        """log p(target | condition), and log p(condition), (B,) in nats: the two terms of the objective (eq. 9)."""
        encoded = self.encode(condition, condition_u)
        return self.log_prob_given(target, encoded, target_u), encoded.log_prob

    def log_prob_given(
        self,
        target: Tensor,
        encoded: Encoded,
        target_u: Tensor | float = MIDPOINT,
        latent_noise: Tensor | None = None,
    ) -> LogLikelihood:
        """`log_prob` of integer targets whose conditions are encoded.

        Arguments:
            latent_noise: added to L where finer flows see it as a condition, (B, 3, H, W): a regularizer of training.
        """
        self._check_target(target, encoded.prepared)
        target = target.to(encoded.prepared.dtype)
        x, dequantizer_term = self.target_dequantizer(target, _places(target_u, target))
        return self._log_density(x, encoded, dequantizer_term, latent_noise)

    def log_density(self, target: Tensor, condition: Tensor, condition_u: Tensor | float = MIDPOINT) -> LogLikelihood:
        """log p at continuous pixel values, such as those that `sample` returns."""
        encoded = self.encode(condition, condition_u)
        self._check_target(target, encoded.prepared)
        return self._log_density(target, encoded, 0.0)

    def importance_log_prob(
        self, target: Tensor, condition: Tensor, draws: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """log (1/K) Σ_k p(target + u_k | condition)/q(u_k), (B,) in nats: the estimate of log P(target | condition) of
        integers from K = `draws` places in the cells. Its mean rises with K towards the truth (Burda et al.,
        "Importance Weighted Autoencoders", 2016), so bits per dimension from it are never flattering."""
        terms = []
        for _ in range(draws):
            u = torch.rand(target.shape, generator=generator, device=target.device, dtype=torch.float32)
            terms.append(self.log_prob(target, condition, target_u=u).total)
        return torch.logsumexp(torch.stack(terms), dim=0) - math.log(draws)

    def draw_noise(self, rows: int, height: int, width: int, generator: torch.Generator | None = None) -> Latents:
        """Standard normal z[i, j] for `rows` targets of height × width."""
        weight = next(self.parameters())
        shapes = self.conditional_flow.latent_shapes(CHANNELS, height, width)
        return {
            key: torch.randn((rows, *shape), generator=generator, device=weight.device, dtype=weight.dtype)
            for key, shape in shapes.items()
        }

    def noise_from(self, values: Tensor) -> Latents:
        """The values of (B, 3, H, W) as z[i, j] of B targets of H × W, which hold as many."""
        shapes = self.conditional_flow.latent_shapes(CHANNELS, *values.shape[2:])
        parts = values.flatten(1).split([math.prod(shape) for shape in shapes.values()], dim=1)
        return {key: part.unflatten(1, shape) for (key, shape), part in zip(shapes.items(), parts, strict=True)}

    def sample(
        self,
        condition: Tensor,
        noise: Latents | None = None,
        temperature: float | list[float] = 1.0,
        condition_u: Tensor | float = MIDPOINT,
    ) -> Sample:
        """One target per condition, with its log-likelihood from the same pass.

        Arguments:
            noise: standard normal z[i, j] as `draw_noise` makes them, or None to draw them.
            temperature: τ: z[i, j] is noise · τ, or noise · τ[i] where there is one for each level (coarsest first).
                Whatever τ, z is scored under N(0, I).
        """
        levels = self.config.levels
        temperatures = [temperature] * levels if isinstance(temperature, float | int) else temperature
        if len(temperatures) != levels:
            raise ValueError(f"wanted one temperature or {levels}, one per level, got {len(temperatures)}")
        encoded = self.encode(condition, condition_u)
        if noise is None:
            noise = self.draw_noise(len(encoded.prepared), *encoded.prepared.shape[2:])
        return self.decode({(i, j): temperatures[i] * values for (i, j), values in noise.items()}, encoded)

    def decode(self, z: Latents, encoded: Encoded) -> Sample:
        """The targets whose base latents are z, one for each encoded condition."""
        latents, conditional_log_dets = self.conditional_flow.inverse(z, encoded.latents, encoded.features)
        v, target_log_dets = self.target_flow.inverse(latents)
        images, pixel_log_det = self.target_pixels.inverse(v, encoded.mean)
        target_log_dets = _add_to_finest(target_log_dets, pixel_log_det)
        likelihood = LogLikelihood(self._prior(z), -conditional_log_dets, -target_log_dets)
        return Sample(images, likelihood)

    def set_network_dtype(self, dtype: torch.dtype | None) -> None:
        """Run the networks inside the affine layers and the mean network in `dtype`, the flow's state in its own type.
        None: the networks in the state's type, too."""
        for module in self.modules():
            if isinstance(module, AffineNetwork | MeanNetwork):
                module.dtype = dtype

    def encode_target(self, x: Tensor, encoded: Encoded) -> Latents:
        """The base latents of continuous pixel values (B, 3, H, W): the inverse of `decode`."""
        v, _ = self.target_pixels(x, encoded.mean)
        z, _ = self.conditional_flow(self.target_flow(v)[0], encoded.latents, encoded.features)
        return cast(Latents, z)

    def _log_density(
        self,
        x: Tensor,
        encoded: Encoded,
        dequantizer_term: Tensor | float,
        latent_noise: Tensor | None = None,
    ) -> LogLikelihood:
        v, pixel_log_det = self.target_pixels(x, encoded.mean)
        latents, target_log_dets = self.target_flow(v)
        seen = None if latent_noise is None else _add_noise(latents, latent_noise)
        z, conditional_log_dets = self.conditional_flow(latents, encoded.latents, encoded.features, seen)
        target_log_dets = _add_to_finest(target_log_dets, pixel_log_det + dequantizer_term)
        return LogLikelihood(self._prior(z), conditional_log_dets, target_log_dets)

    def _prior(self, z: Latents) -> Tensor:
        """log N(z[i, j]; 0, I) summed over i, (B, n) in nats."""
        levels = range(self.config.levels)
        flat = {(i, j): standard_normal_log_prob(values) for (i, j), values in z.items()}
        per_level = [torch.stack([flat[i, j] for i in levels if (i, j) in flat]).sum(0) for j in levels]
        return torch.stack(per_level, dim=1)

    def _check_target(self, target: Tensor, prepared: Tensor) -> None:
        if target.shape != prepared.shape:
            raise ValueError(
                f"wanted a target of shape {tuple(prepared.shape)}, {self.config.task.scale} times the condition's "
                f"height and width, got {tuple(target.shape)}"
            )


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """log N(z; 0, I), summed over all but the batch: (B,) in nats."""
    return -0.5 * (z.square().sum((1, 2, 3)) + z[0].numel() * math.log(2 * math.pi))


def bits_per_dim(log_likelihood: Tensor, dims: int) -> Tensor:
    """−log-likelihood / (dims · ln 2), with `dims` the number of values in one image; pixel values as 0…256."""
    return -log_likelihood / (dims * math.log(2))


def to_integers(images: Tensor) -> Tensor:
    """Continuous pixel values to uint8: rounded down, as the cell [w, w + 1) stands for w, and clamped to 0…255."""
    return images.floor().clamp(0, 255).to(torch.uint8)


def _places(u: Tensor | float, like: Tensor) -> Tensor:
    return u.to(like.dtype) if isinstance(u, Tensor) else torch.full_like(like, u)


def _add_noise(latents: list[Tensor], noise: Tensor) -> list[Tensor]:
    """Latents plus the values of `noise`, (B, C, H, W), which holds as many as all of them together."""
    parts = noise.flatten(1).split([latent[0].numel() for latent in latents], dim=1)
    return [latent + part.view_as(latent) for latent, part in zip(latents, parts, strict=True)]


def _add_to_finest(log_dets: Tensor, finest: Tensor) -> Tensor:
    """Add (B,) to the last column of (B, n)."""
    return torch.cat([log_dets[:, :-1], (log_dets[:, -1] + finest)[:, None]], dim=1)
