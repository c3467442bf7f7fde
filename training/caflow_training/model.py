"""The CAFLOW model of p(target | condition): two image flows, and a conditional flow between their latents (paper, §4).

Shapes: B is the batch size, n the number of levels, H×W the array size of targets, h×w that of conditions.
"""

import math

import torch
from torch import Tensor, nn

from caflow_training.bijections import AffineNetwork
from caflow_training.conditional_flow import BlockSettings, ConditionalFlow, Latents
from caflow_training.config import CAFlowConfig
from caflow_training.degradation_estimator import DegradationEstimator
from caflow_training.dequantization import (
    MIDPOINT,
    KnownPixels,
    UniformDequantizer,
    VariationalDequantizer,
    pixel_space,
)
from caflow_training.image_flow import ImageFlow
from caflow_training.mean_network import MeanNetwork, UNet
from caflow_training.results import Encoded, LogLikelihood, Sample

CHANNELS = 3


class CAFlow(nn.Module):
    """Conditional autoregressive flow.

    Arguments of many methods:
        condition: (B, C, h, w), values 0…255 of any real type, as the user has it; for super-resolution the small
            image. C is 3, or 4 for tasks whose targets are partly known. The model prepares it.
        target: (B, 3, H, W) with H = scale · h and W = scale · w, values 0…255.
        target_u, condition_u: positions u in (0, 1), of the target's shape: with uniform dequantization an integer w
            becomes w + u. The default ½, the middle of the interval from w to w + 1, makes scores deterministic.
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
        knows = config.task.condition_channels > CHANNELS
        self.target_pixels = KnownPixels() if knows else pixel_space(config.pixels, config.reference)
        block = BlockSettings(
            config.conditional_width, config.conditional_transition_steps, config.mean_features, config.reference
        )
        self.condition_flow = image_flow(config.condition_steps)
        self.target_flow = image_flow(config.target_steps)
        self.conditional_flow = ConditionalFlow(
            CHANNELS, config.levels, config.own_steps, config.cross_steps, block, config.dependencies
        )
        self.mean_network = _mean_network(config) if config.mean_blocks else None
        self.degradation_estimator = DegradationEstimator() if config.degradation_aware else None
        for module in self.modules():
            if isinstance(module, AffineNetwork):
                module.log_scale_bound = config.log_scale_bound

    def prepare(self, condition: Tensor) -> Tensor:
        """Convert a condition to the target's size: return (B, 3, H, W), integer values in the model's type.

        Raises:
            ValueError: if the condition's shape does not fit the model.
        """
        config = self.config
        multiple = config.size_multiple // config.task.scale
        channels = config.task.condition_channels
        if condition.ndim != 4 or condition.shape[1] != channels or any(n % multiple for n in condition.shape[2:]):
            raise ValueError(
                f"condition: expected shape (B, {channels}, h, w) with h and w multiples of {multiple}; got "
                f"{tuple(condition.shape)}: crop or pad the condition."
            )
        return config.task.prepare(condition.to(next(self.parameters()).dtype))

    def encode_condition(self, prepared: Tensor, condition_u: Tensor | float = MIDPOINT) -> tuple[list[Tensor], Tensor]:
        """Encode a prepared condition, (B, 3, H, W).

        Return its latents D, coarsest level first, and log p(condition), (B,) in nats.
        """
        x, dequantizer_term = self.condition_dequantizer(prepared, _places(condition_u, prepared))
        v, pixel_log_det = self.condition_pixels(x)
        latents, log_dets = self.condition_flow(v)
        prior = torch.stack([standard_normal_log_prob(latent) for latent in latents]).sum(0)
        return latents, dequantizer_term + pixel_log_det + log_dets.sum(1) + prior

    def encode(
        self, condition: Tensor, condition_u: Tensor | float = MIDPOINT, degradation: Tensor | None = None
    ) -> Encoded:
        """Compute all results that depend on the condition alone.

        Arguments:
            degradation: how the condition was degraded, (B, 13): see `Degradation.vector`. By default a model with
                `degradation_aware` estimates it.

        Raises:
            ValueError: if the condition's shape does not fit the model.
        """
        prepared = self.prepare(condition)
        latents, log_prob = self.encode_condition(prepared, condition_u)
        mean, features = self.predict(condition, prepared, degradation)
        return Encoded(prepared, latents, log_prob, mean, features)

    def predict(
        self, condition: Tensor, prepared: Tensor, degradation: Tensor | None = None
    ) -> tuple[Tensor | None, list[Tensor] | None]:
        """Return `mean` and `features` of `Encoded` for a condition, its prepared form and its degradation."""
        if not self.config.residual:
            return None, None
        if self.mean_network is None:
            return prepared, None
        task = self.config.task
        condition = condition.to(prepared.dtype)
        # `seen` is the prepared condition for tasks without a change of size, because the raw condition may contain
        # information that `prepare` removes, such as the pixels of a hole.
        seen = task.seen(condition, prepared)
        if self.degradation_estimator is not None and degradation is None:
            degradation = self.degradation_estimator(seen).clamp(0, 1)
        difference, features = self.mean_network(seen, degradation)
        mean = with_known(prepared + difference, prepared, task.known(condition))
        return mean, features if self.config.mean_features else None

    def log_prob(
        self,
        target: Tensor,
        condition: Tensor,
        target_u: Tensor | float = MIDPOINT,
        condition_u: Tensor | float = MIDPOINT,
    ) -> LogLikelihood:
        """Return log p(target | condition) of integer targets (eq. 9).

        The density is evaluated at one position in the interval from w to w + 1 of each integer w.
        """
        likelihood, _ = self.log_joint(target, condition, target_u, condition_u)
        return likelihood

    def log_joint(
        self,
        target: Tensor,
        condition: Tensor,
        target_u: Tensor | float = MIDPOINT,
        condition_u: Tensor | float = MIDPOINT,
    ) -> tuple[LogLikelihood, Tensor]:
        """Return the two terms of the objective (eq. 9): log p(target | condition), and log p(condition).

        The second term is (B,) in nats.
        """
        encoded = self.encode(condition, condition_u)
        return self.log_prob_given(target, encoded, target_u), encoded.log_prob

    def log_prob_given(
        self,
        target: Tensor,
        encoded: Encoded,
        target_u: Tensor | float = MIDPOINT,
        latent_noise: Tensor | None = None,
    ) -> LogLikelihood:
        """Return `log_prob` of integer targets for conditions that are already encoded.

        Arguments:
            latent_noise: noise (B, 3, H, W) that is added to the latents L where cross blocks read them as conditions;
                a regularizer for training.
        """
        self._check_target(target, encoded.prepared)
        target = target.to(encoded.prepared.dtype)
        x, dequantizer_term = self.target_dequantizer(target, _places(target_u, target))
        return self._log_density(x, encoded, dequantizer_term, latent_noise)

    def log_density(self, target: Tensor, condition: Tensor, condition_u: Tensor | float = MIDPOINT) -> LogLikelihood:
        """Return log p(target | condition) at continuous pixel values, such as those that `sample` returns."""
        encoded = self.encode(condition, condition_u)
        self._check_target(target, encoded.prepared)
        return self._log_density(target, encoded, 0.0)

    def importance_log_prob(
        self, target: Tensor, condition: Tensor, draws: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Estimate the log-probability of integer targets from K = `draws` random positions.

        Each position lies in the intervals from w to w + 1 of the target's integers w.

        The mean of the estimate rises with K towards the true value (Burda et al., "Importance Weighted Autoencoders",
        2016). So on average, its bits per dimension are not lower than the true ones.

        Returns: log (1/K) Σ_k p(target + u_k | condition)/q(u_k), (B,) in nats. u_k is the k-th position, and q its
            density: 1 with uniform dequantization, and learned with variational dequantization.
        """
        terms = []
        for _ in range(draws):
            u = torch.rand(target.shape, generator=generator, device=target.device, dtype=torch.float32)
            terms.append(self.log_prob(target, condition, target_u=u).total)
        return torch.logsumexp(torch.stack(terms), dim=0) - math.log(draws)

    def draw_noise(self, rows: int, height: int, width: int, generator: torch.Generator | None = None) -> Latents:
        """Draw standard normal noise z[i, j] for `rows` targets of the given height and width."""
        weight = next(self.parameters())
        shapes = self.conditional_flow.latent_shapes(CHANNELS, height, width)
        return {
            key: torch.randn((rows, *shape), generator=generator, device=weight.device, dtype=weight.dtype)
            for key, shape in shapes.items()
        }

    def noise_from(self, values: Tensor) -> Latents:
        """Split `values` (B, 3, H, W) into noise z[i, j] for B targets of shape (3, H, W)."""
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
        """Draw one sample per condition, and compute its log-likelihood in the same pass.

        Arguments:
            noise: standard normal z[i, j] from `draw_noise`; None draws new noise.
            temperature: factor τ on the noise: one number, or a list with one number per level, coarsest first. z[i, j]
                is then multiplied by τ[i]. The log-likelihood refers to N(0, I) at every temperature.
        """
        levels = self.config.levels
        temperatures = [temperature] * levels if isinstance(temperature, float | int) else temperature
        if len(temperatures) != levels:
            raise ValueError(f"temperature: expected 1 number or {levels}, one per level; got {len(temperatures)}")
        encoded = self.encode(condition, condition_u)
        if noise is None:
            noise = self.draw_noise(len(encoded.prepared), *encoded.prepared.shape[2:])
        return self.decode({(i, j): temperatures[i] * values for (i, j), values in noise.items()}, encoded)

    def decode(self, z: Latents, encoded: Encoded) -> Sample:
        """Turn base latents z into targets, one for each encoded condition. This is the inverse of `encode_target`."""
        latents, conditional_log_dets = self.conditional_flow.inverse(z, encoded.latents, encoded.features)
        v, target_log_dets = self.target_flow.inverse(latents)
        images, pixel_log_det = self.target_pixels.inverse(v, encoded.mean)
        target_log_dets = _add_to_finest(target_log_dets, pixel_log_det)
        likelihood = LogLikelihood(self._prior(z), -conditional_log_dets, -target_log_dets)
        return Sample(images, likelihood)

    def set_network_dtype(self, dtype: torch.dtype | None) -> None:
        """Set the type in which the networks of the affine layers and the mean network compute.

        The state of the flow keeps its type. None makes the networks compute in that type, too.
        """
        for module in self.modules():
            if isinstance(module, AffineNetwork | MeanNetwork | UNet):
                module.dtype = dtype

    def coarsest_blocks(self) -> list[nn.Module]:
        """Return the parts of the flow that draw the coarsest latents and turn them into the next level's."""
        return [self.conditional_flow.own[0], self.target_flow.levels[0]]

    def encode_target(self, x: Tensor, encoded: Encoded) -> Latents:
        """Turn continuous pixel values (B, 3, H, W) into base latents z. This is the inverse of `decode`."""
        v, _ = self.target_pixels(x, encoded.mean)
        z: Latents = self.conditional_flow(self.target_flow(v)[0], encoded.latents, encoded.features)[0]
        return z

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
        """Return log N(z[i, j]; 0, I) at each level j, summed over i: (B, n) in nats."""
        levels = range(self.config.levels)
        flat = {(i, j): standard_normal_log_prob(values) for (i, j), values in z.items()}
        per_level = [torch.stack([flat[i, j] for i in levels if (i, j) in flat]).sum(0) for j in levels]
        return torch.stack(per_level, dim=1)

    def _check_target(self, target: Tensor, prepared: Tensor) -> None:
        if target.shape != prepared.shape:
            raise ValueError(
                f"target: expected shape {tuple(prepared.shape)}, with {self.config.task.scale} times the condition's "
                f"height and width; got {tuple(target.shape)}"
            )


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """Return log N(z; 0, I), summed over all axes but the batch: (B,) in nats."""
    return -0.5 * (z.square().sum((1, 2, 3)) + z[0].numel() * math.log(2 * math.pi))


def with_known(mean: Tensor, prepared: Tensor, known: Tensor | None) -> Tensor:
    """Return what is subtracted from targets: the prediction, or what `KnownPixels` reads where values are known.

    Arguments:
        mean: prediction of the target, (B, 3, H, W).
        prepared: prepared conditions, of the same shape.
        known: which values of the target are those of `prepared`, of the same shape; None if none is.
    """
    if known is None:
        return mean
    return torch.cat([torch.where(known, prepared, mean), known.to(mean.dtype)], 1)


def _mean_network(config: CAFlowConfig) -> MeanNetwork | UNet:
    features = [config.mean_features] * config.levels if config.mean_features else []
    if config.mean_depth:
        depth, blocks, width = config.mean_depth, config.mean_blocks, config.mean_width
        return UNet(config.task.condition_channels, CHANNELS, depth, blocks, width, features)
    return MeanNetwork(
        CHANNELS, config.task.scale, config.mean_blocks, config.mean_width, features, config.degradation_aware
    )


def _places(u: Tensor | float, like: Tensor) -> Tensor:
    return u.to(like.dtype) if isinstance(u, Tensor) else torch.full_like(like, u)


def _add_noise(latents: list[Tensor], noise: Tensor) -> list[Tensor]:
    """Add the values of `noise` (B, C, H, W) to the latents, which together have as many values."""
    parts = noise.flatten(1).split([latent[0].numel() for latent in latents], dim=1)
    return [latent + part.view_as(latent) for latent, part in zip(latents, parts, strict=True)]


def _add_to_finest(log_dets: Tensor, finest: Tensor) -> Tensor:
    """Add `finest`, (B,), to the last column of `log_dets`, (B, n)."""
    return torch.cat([log_dets[:, :-1], (log_dets[:, -1] + finest)[:, None]], dim=1)
