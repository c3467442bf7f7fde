"""Training objective (paper, eq. 9), learning rate, and moving average of the weights (Appendix B)."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caflow_training.adversarial import Discriminator
from caflow_training.bijections import initialize_actnorm
from caflow_training.crop_sampler import TrainingBatch
from caflow_training.dequantization import CELLS, MIDPOINT
from caflow_training.model import CHANNELS, CAFlow
from caflow_training.recipe import TrainingConfig
from caflow_training.results import Encoded

LATTICE = 4
"""Period of the pattern that the `lattice` term suppresses, in pixels. Training with LPIPS alone produced visible grids
with periods of 4 and 2 pixels."""


class Objective(nn.Module):
    """Loss of a batch: a weighted sum of up to seven terms, each averaged over the batch.

    * `likelihood`: −[log p(W | Y) + λ log p(Y)] / dims, in nats per dimension (eq. 9).
    * `mean`: mean error of the mean network's prediction, absolute or squared.
    * `degradation`: error of the estimated degradation, on the scale of `Degradation.vector` (mean square).
    * `still`: L1 distance between the sample at temperature 0 and the target.
    * `features`: perceptual distance between a sample, or the mean network's prediction, and the target. Both are
      shifted by the same random offset, because networks with strides favour patterns that are aligned with their
      strides.
    * `lattice`: pattern that repeats every 4 pixels in the difference between the same two images.
    * `adversarial`: how well a discriminator tells the same two images apart. It comes with an eighth term of weight 1,
      `discriminator`: the discriminator's own error, which trains the discriminator and nothing else.

    Terms that require samples have a gradient that passes through the sampling direction of the flow. The
    likelihood stays exact, but it is the likelihood of a different flow, whose samples look better. Pixel values are
    scaled to 0…1, except in the perceptual distance.

    The class is a module, so that `torch.compile` and DistributedDataParallel can wrap the whole loss.

    Arguments:
        distance: module that returns the perceptual distance (B,) between images and targets, both (B, 3, H, W) in
            pixel values: see `PerceptualDistance`. Required if `feature_weight` is above 0.
        discriminator: required if `adversarial_weight` is above 0. It is trained through this loss, by an optimizer of
            its own.
    """

    def __init__(
        self,
        model: CAFlow,
        config: TrainingConfig,
        distance: nn.Module | None = None,
        discriminator: Discriminator | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.distance = distance
        self.discriminator = discriminator

    def forward(self, batch: TrainingBatch, adversarial_share: float = 1.0) -> dict[str, Tensor]:
        """Return `loss` and its terms without their weights, as scalars.

        With the term `likelihood`, the result also contains `conditional`: −log p(W | Y) / dims.

        Arguments:
            adversarial_share: factor on `adversarial_weight`, 0…1.
        """
        terms: dict[str, Tensor] = {}
        loss = batch.noise.new_zeros(())
        for name, weight, value in self._terms(batch):
            terms[name] = value
            share = adversarial_share if name == "adversarial" else 1.0
            loss = loss + share * weight * value
        return {"loss": loss, **terms}

    def _terms(self, batch: TrainingBatch) -> Iterator[tuple[str, float, Tensor]]:
        """Yield name, weight and value of each term."""
        config, model = self.config, self.model
        degradation = None
        if model.degradation_estimator is not None:
            estimated = model.degradation_estimator(batch.conditions.to(batch.degradation.dtype))
            yield "degradation", config.degradation_weight, F.mse_loss(estimated, batch.degradation)
            degradation = torch.where(batch.is_known, batch.degradation, estimated.detach().clamp(0, 1))
        targets = batch.targets + MIDPOINT
        if not config.trains_flow:  # the mean network does not need the latents of the condition
            if config.trains_mean:
                mean, _ = model.predict(batch.conditions, model.prepare(batch.conditions), degradation)
                yield from self._of_mean(cast(Tensor, mean), targets, batch)
            return
        encoded = model.encode(batch.conditions, batch.condition_u, degradation)
        if config.likelihood_weight:
            noise = config.latent_noise * batch.noise_level * batch.noise if config.latent_noise else None
            likelihood = model.log_prob_given(batch.targets, encoded, batch.target_u, noise)
            dims = batch.targets[0].numel()
            conditional = -likelihood.total.mean() / dims
            yield "conditional", 0.0, conditional
            of_condition = encoded.log_prob.mean() / dims
            yield "likelihood", config.likelihood_weight, conditional - config.condition_weight * of_condition
        if config.trains_mean:
            yield from self._of_mean(cast(Tensor, encoded.mean), targets, batch)
        if config.trains_samples:
            yield from self._of_samples(batch, encoded, targets)

    def _of_mean(self, mean: Tensor, targets: Tensor, batch: TrainingBatch) -> Iterator[tuple[str, float, Tensor]]:
        """Yield name, weight and value of each term that is about the mean network's prediction."""
        mean = mean[:, :CHANNELS]
        if self.config.mean_weight:
            error = _l1 if self.config.mean_error == "absolute" else _squared
            yield "mean", self.config.mean_weight, error(mean, targets)
        if self.config.compared == "mean":
            yield from self._compared(mean, targets, batch)

    def _of_samples(
        self, batch: TrainingBatch, encoded: Encoded, targets: Tensor
    ) -> Iterator[tuple[str, float, Tensor]]:
        """Yield name, weight and value of each term that requires samples.

        All samples are drawn in one batch: those at temperature 0 first, then those that are compared by features.
        """
        config, rows = self.config, len(targets)
        draws = config.compares and config.compared == "sample"
        highest, lowest = config.feature_temperature, config.lowest_feature_temperature
        drawn_at = highest if lowest is None else lowest + (highest - lowest) * batch.noise_level
        temperatures = [0.0] * (config.still_weight > 0) + [drawn_at] * draws
        noise = self.model.noise_from(torch.cat([temperature * batch.noise for temperature in temperatures]))
        image = torch.arange(rows, device=targets.device).repeat(len(temperatures))
        encoded = encoded.rows(image)
        if config.coarsest_by_likelihood:
            encoded = dataclasses.replace(encoded, latents=[latent.detach() for latent in encoded.latents])
        with _fixed(self.model.coarsest_blocks() if config.coarsest_by_likelihood else []):
            images = encoded.completed(self.model.decode(noise, encoded).images)
        if config.still_weight:
            yield "still", config.still_weight, _l1(images[:rows], targets)
        if draws:
            yield from self._compared(images[-rows:], targets, batch)

    def _compared(self, images: Tensor, targets: Tensor, batch: TrainingBatch) -> Iterator[tuple[str, float, Tensor]]:
        """Yield name, weight and value of the terms that compare images with their targets."""
        config = self.config
        if config.feature_weight or config.adversarial_weight:
            colours = (self.model.config.task.to_rgb(some) for some in (images, targets))
            shown, wanted = (_shifted(some, batch.shift, config.feature_side) for some in colours)
        if config.feature_weight:
            assert self.distance is not None
            yield "features", config.feature_weight, self.distance(shown, wanted).mean()
        if config.adversarial_weight:
            assert self.discriminator is not None
            of_discriminator, of_images = self.discriminator.losses(shown, wanted)
            yield "discriminator", 1.0, of_discriminator
            yield "adversarial", config.adversarial_weight, of_images
        if config.lattice_weight:
            yield "lattice", config.lattice_weight, _lattice(images - targets)


@contextmanager
def _fixed(modules: list[nn.Module]) -> Iterator[None]:
    """Let gradients pass through modules without reaching their weights."""
    for module in modules:
        module.requires_grad_(False)
    try:
        yield
    finally:
        for module in modules:
            module.requires_grad_(True)


def _l1(images: Tensor, targets: Tensor) -> Tensor:
    return (images - targets).abs().mean() / CELLS


def _squared(images: Tensor, targets: Tensor) -> Tensor:
    return ((images - targets) / CELLS).square().mean()


def _shifted(images: Tensor, shift: Tensor, side: int) -> Tensor:
    """Shift each image of (B, 3, H, W) by its row of `shift`, (B, 2): pixels down and to the right.

    Arguments:
        side: side of the part that is cut out after the shift. With 0, the whole image is shifted cyclically.
    """
    pairs = list(zip(images, shift.tolist(), strict=True))
    if side:
        return torch.stack([image[:, down : down + side, right : right + side] for image, (down, right) in pairs])
    return torch.stack([image.roll((down, right), (1, 2)) for image, (down, right) in pairs])


def _lattice(difference: Tensor) -> Tensor:
    """Return the strength of patterns that repeat every 4 pixels, for pixel values scaled to 0…1.

    The difference is averaged over each crop, separately for each of the 4×4 positions in a cell of the lattice. The
    result is the mean absolute deviation of these averages from their common mean.
    """
    places = F.pixel_unshuffle(difference / CELLS, LATTICE).unflatten(1, (-1, LATTICE**2)).mean((-1, -2))
    deviation: Tensor = places - places.mean(2, keepdim=True)
    return deviation.abs().mean()


def initialize_from(model: CAFlow, batch: TrainingBatch) -> None:
    """Initialize every ActNorm of the model from one batch."""
    batch = batch.to(next(model.parameters()).device)
    initialize_actnorm(
        model, lambda: model.log_joint(batch.targets, batch.conditions, batch.target_u, batch.condition_u)
    )


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Return the learning rate of a step, counted from 0: linear warm-up, decay per epoch, and one final reduction."""
    warm_up = min(1.0, (step + 1) / config.warm_up_steps) if config.warm_up_steps else 1.0
    decay = config.decay_per_epoch ** (step // config.epoch_steps)
    level_off = config.level_off_factor if step >= config.level_off_step else 1.0
    return config.learning_rate * warm_up * decay * level_off


class AveragedWeights:
    """Exponential moving average of a model's weights.

    At step t, counted from 0, the decay is min(`decay`, (1 + t)/(10 + t)).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Update the average with the weights after `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages = list(self.values.values())
        current = model.state_dict()  # called once, because each call visits all modules
        weights = [current[name] for name in self.values]
        torch._foreach_lerp_(averages, weights, 1 - decay)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Load averages that a stopped run has stored."""
        for name, tensor in self.values.items():
            tensor.copy_(values[name])
