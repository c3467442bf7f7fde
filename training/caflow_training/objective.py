"""The training objective (paper, eq. 9), the learning rate and the average of weights (Appendix B)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from caflow_training.bijections import initialize_actnorm
from caflow_training.data import Batch
from caflow_training.model import CAFlow
from caflow_training.recipe import TrainingConfig


class Objective(nn.Module):
    """−[log p(W | Y) + λ log p(Y)] / dims, averaged over the batch, in nats per dimension.

    A module, so that `torch.compile` and DistributedDataParallel can wrap the whole of it.
    """

    def __init__(self, model: CAFlow, condition_weight: float) -> None:
        super().__init__()
        self.model = model
        self.condition_weight = condition_weight

    def forward(
        self, targets: Tensor, conditions: Tensor, target_u: Tensor, condition_u: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss, and −log p(W | Y) / dims alone, both scalars."""
        likelihood, condition_log_prob = self.model.log_joint(targets, conditions, target_u, condition_u)
        dims = targets[0].numel()
        conditional = -likelihood.total.mean() / dims
        return conditional - self.condition_weight * condition_log_prob.mean() / dims, conditional


def initialize_from(model: CAFlow, batch: Batch) -> None:
    """Initialise every ActNorm from the whole of one batch."""
    device = next(model.parameters()).device
    tensors = (batch.targets, batch.conditions, batch.target_u, batch.condition_u)
    initialize_actnorm(model, lambda: model.log_joint(*(tensor.to(device) for tensor in tensors)))


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
