"""Start a new run from the weights of other models: a further stage of training, or a model that differs a little."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from caflow_training import checkpoint
from caflow_training.bijections import ActNorm, TransitionStep
from caflow_training.model import CAFlow

FLOW_IS_TRAINED = "flow_is_trained"
"""Key in what a checkpoint says of its training."""


class StartError(ValueError):
    """A run cannot start from a checkpoint."""


def start_from(model: CAFlow, paths: Sequence[Path]) -> bool:
    """Take over every weight of checkpoints that fits, and return whether the flows' ActNorms are among them.

    A weight fits if the model has one of its name and shape. Where a convolution of the model has more input channels,
    the first are taken over and the others start at zero, so that the model computes what the checkpoint's does until
    it has learned to use them. Of weights that several checkpoints have, the last one's are taken; flows that were
    never trained, as those beside a mean network that was trained alone, are left out. If the function returns False,
    the ActNorms must be initialised from data.

    Raises:
        CheckpointError, ConfigError: if one cannot be read.
        StartError: if nothing of one of them fits.
    """
    own, norms = model.state_dict(), _actnorms(model)
    trained: set[str] = set()
    for path in paths:
        fitting = {
            name: weight
            for name, stored in _trained_weights(path).items()
            if name in own and (weight := _fitted(stored, own[name])) is not None
        }
        if not fitting:
            raise StartError(
                f"{path}: no weight fits the recipe's model: start from a model of the same levels and widths."
            )
        own |= fitting
        trained |= fitting.keys()
    model.load_state_dict(own)
    return norms <= trained


def _trained_weights(path: Path) -> dict[str, Tensor]:
    """Weights of a checkpoint by name. If its mean network was trained alone, only those of that network."""
    weights = checkpoint.load(path).state_dict()
    training = checkpoint.read(path).get("training") or {}
    if training.get(FLOW_IS_TRAINED, True):
        return weights
    return {name: weight for name, weight in weights.items() if name.startswith("mean_network.")}


def _fitted(stored: Tensor, own: Tensor) -> Tensor | None:
    """The stored weight in the shape of the model's own, or None if it does not fit."""
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
    """Names of the parameters that are initialised from data."""
    norms = [
        (f"{name}.norm" if isinstance(layer, TransitionStep) else name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, ActNorm | TransitionStep)
    ]
    return {f"{name}.{part}" for name, _ in norms for part in ("log_scale", "bias")}
