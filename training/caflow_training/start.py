"""Initialization of a new run with the weights of other models.

Used for training in stages, and for models that differ a little from a trained one.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from caflow_training import checkpoint
from caflow_training.bijections import ActNorm, TransitionStep
from caflow_training.model import CAFlow
from caflow_training.tasks import Task

WITHOUT_FLOW = ("mean_network.", "degradation_estimator.")
"""Beginnings of the names of weights that are trained even if the flows are not."""
FLOW_IS_TRAINED = "flow_is_trained"
"""Key in a checkpoint's `training` table: whether the flows were trained, and not the mean network alone."""


class StartError(ValueError):
    """Error for a checkpoint of which no weight fits the model."""


def start_from(model: CAFlow, paths: Sequence[Path], say: Callable[[str], None] = print) -> bool:
    """Copy every weight that fits from checkpoints into the model. Return whether all ActNorms received weights.

    If the result is False, the ActNorms must be initialized from data.

    * A weight fits if the model has a weight with the same name and shape.
    * A convolution's weight also fits if the model's convolution has more input channels. The weights of the additional
      channels are then set to 0, so the model initially computes the same as the checkpoint's model.
    * If several checkpoints contain a weight, the last one is used.
    * Flows that were never trained are skipped. A checkpoint contains such flows if its mean network was trained alone.
    * A checkpoint may have another task or fit in part only, for example if only its mean network is used.

    Arguments:
        say: called with a line for each checkpoint that tells how many of its weights fit, and with a remark if they
            are less than half, or if the tasks differ.

    Raises:
        CheckpointError, ConfigError: if a checkpoint cannot be read.
        StartError: if no weight of a checkpoint fits.
    """
    own, norms = model.state_dict(), _actnorms(model)
    trained: set[str] = set()
    for path in paths:
        source = checkpoint.load(path)
        weights = _trained_weights(path, source)
        fitting = {
            name: weight
            for name, stored in weights.items()
            if name in own and (weight := _fitted(stored, own[name])) is not None
        }
        if not fitting:
            raise StartError(
                f"{path}: no weight fits the recipe's model: use a checkpoint of a model with equal levels and widths."
            )
        # Values are counted, not tensors: of a model of another width, most tensors fit, but they are the small ones.
        fit, count = _values(weights[name] for name in fitting), _values(weights.values())
        say(f"starting from {path}: {fit:,} of {count:,} weights fit")
        if 2 * fit < count:
            say(f"most weights of {path} are not used: compare its levels and widths with those of the recipe")
        if (trained_for := _purpose(source.config.task)) != (wanted := _purpose(model.config.task)):
            say(f"{path} was trained for {trained_for}, but the recipe is for {wanted}")
        own |= fitting
        trained |= fitting.keys()
    model.load_state_dict(own)
    return norms <= trained


def _values(weights: Iterable[Tensor]) -> int:
    return sum(weight.numel() for weight in weights)


def _purpose(task: Task) -> str:
    return f"{task.task}, ×{task.scale}" if task.scale > 1 else task.task


def _trained_weights(path: Path, model: CAFlow) -> dict[str, Tensor]:
    """Return the weights of a checkpoint's model by name, without those of flows that were never trained."""
    weights = model.state_dict()
    training = checkpoint.read(path).get("training") or {}
    if training.get(FLOW_IS_TRAINED, True):
        return weights
    return {name: weight for name, weight in weights.items() if name.startswith(WITHOUT_FLOW)}


def _fitted(stored: Tensor, own: Tensor) -> Tensor | None:
    """Return the stored weight in the shape of the model's weight, or None if the stored weight does not fit."""
    if stored.ndim != own.ndim:
        return None
    if stored.shape == own.shape:
        return stored
    more_inputs = own.ndim == 4 and stored.shape[1] < own.shape[1]
    if not more_inputs or stored.shape[0] != own.shape[0] or stored.shape[2:] != own.shape[2:]:
        return None
    widened = torch.zeros_like(own)
    widened[:, : stored.shape[1]] = stored
    return widened


def _actnorms(model: CAFlow) -> set[str]:
    """Return the names of the ActNorms' parameters, which are initialized from data."""
    norms = [
        (f"{name}.norm" if isinstance(layer, TransitionStep) else name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, ActNorm | TransitionStep)
    ]
    return {f"{name}.{part}" for name, _ in norms for part in ("log_scale", "bias")}
