"""The training objective (paper, eq. 9), the learning rate and the average of weights (Appendix B)."""

from collections.abc import Iterator, Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caflow_training.bijections import initialize_actnorm
from caflow_training.data import Batch
from caflow_training.dequantization import CELLS, MIDPOINT
from caflow_training.model import CAFlow, Encoded
from caflow_training.recipe import TrainingConfig

LATTICE = 4
"""Pixels: a grid that was seen had a period of this, and of half of it."""


class Objective(nn.Module):
    """The loss of a batch: a weighted sum of up to five terms, each averaged over the batch.

    * `likelihood`: −[log p(W | Y) + λ log p(Y)] / dims, in nats per dimension (eq. 9).
    * `mean`: L1 distance between the mean network's prediction and the target.
    * `still`: L1 distance between the sample at τ = 0 and the target. This and the next two are trained through the
      sampling direction, which leaves the likelihood exact: it is that of another, better looking flow.
    * `features`: perceptual distance between a sample and the target, both shifted at random, since networks with
      strides favour patterns that fit them.
    * `lattice`: what repeats every 4 pixels in the difference of that sample and the target.

    Pixel values count as 0…1 in all but the perceptual distance. `distance` takes images and targets, (B, 3, H, W) of
    pixel values, and returns (B,): see `PerceptualDistance`.

    A module, so that `torch.compile` and DistributedDataParallel can wrap the whole of it.
    """

    def __init__(self, model: CAFlow, config: TrainingConfig, distance: nn.Module | None = None) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.distance = distance

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`, and the terms that it consists of, unweighted; all scalars. `conditional`, which comes with the
        likelihood, is −log p(W | Y) / dims alone."""
        config = self.config
        encoded = self.model.encode(batch.conditions, batch.condition_u)
        terms: dict[str, Tensor] = {}
        loss = encoded.log_prob.new_zeros(())
        if config.likelihood_weight:
            noise = config.latent_noise * batch.noise_level * batch.noise if config.latent_noise else None
            likelihood = self.model.log_prob_given(batch.targets, encoded, batch.target_u, noise)
            dims = batch.targets[0].numel()
            terms["conditional"] = -likelihood.total.mean() / dims
            terms["likelihood"] = terms["conditional"] - config.condition_weight * encoded.log_prob.mean() / dims
            loss = loss + config.likelihood_weight * terms["likelihood"]
        targets = batch.targets + MIDPOINT
        if config.mean_weight:
            terms["mean"] = _l1(cast(Tensor, encoded.mean), targets)
            loss = loss + config.mean_weight * terms["mean"]
        if config.trains_samples:
            for name, weight, value in self._of_samples(batch, encoded, targets):
                terms[name] = value
                loss = loss + weight * value
        return {"loss": loss, **terms}

    def _of_samples(self, batch: Batch, encoded: Encoded, targets: Tensor) -> Iterator[tuple[str, float, Tensor]]:
        """Name, weight and value of the terms of samples, which are drawn together: those at τ = 0, then the others."""
        config, rows = self.config, len(targets)
        draws = config.feature_weight > 0 or config.lattice_weight > 0
        temperatures = [0.0] * (config.still_weight > 0) + [config.feature_temperature] * draws
        noise = self.model.noise_from(torch.cat([temperature * batch.noise for temperature in temperatures]))
        image = torch.arange(rows, device=targets.device).repeat(len(temperatures))
        images = self.model.decode(noise, encoded.rows(image)).images
        if config.still_weight:
            yield "still", config.still_weight, _l1(images[:rows], targets)
        if config.feature_weight:
            assert self.distance is not None
            shown, wanted = (_shifted(some, batch.shift) for some in (images[-rows:], targets))
            yield "features", config.feature_weight, self.distance(shown, wanted).mean()
        if config.lattice_weight:
            yield "lattice", config.lattice_weight, _lattice(images[-rows:] - targets)


def _l1(images: Tensor, targets: Tensor) -> Tensor:
    return (images - targets).abs().mean() / CELLS


def _shifted(images: Tensor, shift: Tensor) -> Tensor:
    """Each of (B, 3, H, W) by its own (B, 2) pixels; what leaves at one side comes in at the other."""
    pairs = zip(images, shift.tolist(), strict=True)
    return torch.stack([image.roll((down, right), (1, 2)) for image, (down, right) in pairs])


def _lattice(difference: Tensor) -> Tensor:
    """Mean deviation of the 4 × 4 places of a lattice from their mean: each place averaged over a whole crop."""
    places = F.pixel_unshuffle(difference / CELLS, LATTICE).unflatten(1, (-1, LATTICE**2)).mean((-1, -2))
    deviation: Tensor = places - places.mean(2, keepdim=True)
    return deviation.abs().mean()


def initialize_from(model: CAFlow, batch: Batch) -> None:
    """Initialise every ActNorm from the whole of one batch."""
    batch = batch.to(next(model.parameters()).device)
    initialize_actnorm(
        model, lambda: model.log_joint(batch.targets, batch.conditions, batch.target_u, batch.condition_u)
    )


def learning_rate(step: int, config: TrainingConfig) -> float:
    """The learning rate of a step, 0 the first: linear warm-up, decay per epoch, one level-off."""
    warm_up = min(1.0, (step + 1) / config.warm_up_steps) if config.warm_up_steps else 1.0
    decay = config.decay_per_epoch ** (step // config.epoch_steps)
    level_off = config.level_off_factor if step >= config.level_off_step else 1.0
    return config.learning_rate * warm_up * decay * level_off


class AveragedWeights:
    """Exponential moving average of a model's weights, with the warm-up min(decay, (1 + t)/(10 + t))."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after `step`, 0 the first."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages = list(self.values.values())
        current = model.state_dict()  # once: each call walks all modules
        weights = [current[name] for name in self.values]
        torch._foreach_lerp_(averages, weights, 1 - decay)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Go on from averages stored by an earlier run."""
        for name, tensor in self.values.items():
            tensor.copy_(values[name])
