"""Start a new run from the weights of another model: a further stage of training, or a model that differs a little."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from caflow_training import checkpoint
from caflow_training.bijections import ActNorm, TransitionStep
from caflow_training.model import CAFlow

FLOW_IS_TRAINED = "flow_is_trained"
"""Key in what a checkpoint says of its training."""


class StartError(ValueError):
    """A run cannot start from a checkpoint."""


def start_from(model: CAFlow, path: Path) -> bool:
    """Take over every weight of a checkpoint that fits, and return whether the flows' ActNorms are among them.

    A weight fits if the model has one of its name and shape. Where a convolution of the model has more input channels,
    the first are taken over and the others start at zero, so that the model computes what the checkpoint's does until
    it has learned to use them. If the function returns False, the ActNorms must be initialised from data.

    Raises:
        CheckpointError, ConfigError: if the file cannot be read.
        StartError: if nothing of it fits.
    """
    stored = checkpoint.load(path).state_dict()
    fresh, taken = set(), 0
    own = model.state_dict()
    for name, weight in own.items():
        fitting = _fitted(stored.get(name), weight)
        if fitting is None:
            fresh.add(name)
        else:
            own[name] = fitting
            taken += 1
    if not taken:
        raise StartError(
            f"{path}: no weight fits the recipe's model: start from a model of the same levels and widths."
        )
    model.load_state_dict(own)
    return _has_trained_flow(checkpoint.read(path)) and not fresh & _actnorms(model)


def _fitted(stored: Tensor | None, own: Tensor) -> Tensor | None:
    """The stored weight in the shape of the model's own, or None if it does not fit."""
    if stored is None or stored.ndim != own.ndim:
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


def _has_trained_flow(contents: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's flows were ever trained, and not its mean network alone."""
    return bool((contents.get("training") or {}).get(FLOW_IS_TRAINED, True))
