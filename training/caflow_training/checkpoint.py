"""Checkpoints: a model's configuration and weights in one file that loads without executing anything.

`load` also takes the Lightning checkpoints of the public reference implementation as they are, and bundles that were
exported in float32.
"""

import argparse
import errno
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

import torch

from caflow_runtime.whole_files import whole_file
from caflow_training import bundle_checkpoint, reference_checkpoint
from caflow_training.config import CAFlowConfig, ConfigError, config_from_dict, config_to_dict
from caflow_training.model import CAFlow

FORMAT = "caflow-checkpoint"
FORMAT_VERSION = 1
CONTENTS: dict[str, tuple[type, ...]] = {
    "config": (dict,),
    "weights": (dict,),
    "ema": (dict, NoneType),
    "training": (dict, NoneType),
}
"""What a checkpoint holds beside its format and version."""


class CheckpointError(ValueError):
    """A file is not a checkpoint, or not one that this version reads."""


def load(path: str | Path) -> CAFlow:
    """The model of a checkpoint, in evaluation mode on the CPU: its EMA weights where the training kept an average.

    Raises:
        CheckpointError: if the file is not a checkpoint.
        ConfigError: if its configuration does not fit this version.
    """
    contents = read(path)
    if reference_checkpoint.is_reference(contents):
        try:
            return reference_checkpoint.to_model(contents).eval()
        except reference_checkpoint.UnsupportedReference as error:
            raise CheckpointError(f"{path}: {error}") from None
    try:
        config = config_from_dict(contents["config"])
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    weights = contents["weights"] if contents["ema"] is None else contents["ema"]
    check_weights(path, config, weights)
    model = CAFlow(config)
    model.load_state_dict(weights)
    return model.eval()


def read(path: str | Path) -> dict[str, Any]:
    """The raw contents of a checkpoint of this project, also of one in a bundle, or of the reference implementation.
    Runs no pickled code.

    Raises:
        CheckpointError: if the file or folder is none of them.
    """
    contents = _read_bundle(Path(path)) if Path(path).is_dir() else _read_file(path)
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        if isinstance(contents, dict) and reference_checkpoint.is_reference(contents):
            return contents
        raise CheckpointError(f"{path}: wanted a CAFLOW checkpoint, got another PyTorch file")
    version = contents.get("version")
    if not isinstance(version, int) or version != FORMAT_VERSION:  # tensors have a comparison of their own
        raise CheckpointError(
            f"{path}: wanted checkpoint version {FORMAT_VERSION}, got {version}: "
            "load it with the version of caflow-deploy that wrote it"
        )
    for key, kinds in CONTENTS.items():
        if key not in contents or not isinstance(contents[key], kinds):
            raise CheckpointError(f"{path}: the checkpoint is damaged: its {key} is missing, or no table")
    return contents


def _read_bundle(folder: Path) -> dict[str, Any]:
    try:
        return bundle_checkpoint.read(folder)
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder}: wanted a checkpoint or a bundle that holds one, and the folder has no "
            f"{bundle_checkpoint.NAME} with {bundle_checkpoint.WEIGHTS}: export with --precision fp32 writes them"
        ) from None
    except bundle_checkpoint.DamagedBundle as error:
        raise CheckpointError(str(error)) from None


def _read_file(path: str | Path) -> Any:
    """What `torch.load` finds in a file."""
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: there is no such file")
    try:
        # Besides tensors and plain values, the reference's files hold their options in this one class.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # of any class: bytes are taken for a pickle
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that one: a place outside of the file
            raise
        if "allocate memory" in str(error):
            raise MemoryError(f"{path}: {error}") from None
        # Without its text, which advises to run what they hold.
        raise CheckpointError(
            f"{path} is no checkpoint of caflow-train or of the public CAFLOW implementation, or it is damaged"
        ) from None


def check_weights(path: str | Path, config: CAFlowConfig, weights: Mapping[str, Any]) -> None:
    """Hold the names and shapes of weights against what the configuration asks for, before any memory is taken for it.

    Raises:
        CheckpointError: naming the first weight that differs.
    """
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in CAFlow(config).state_dict().items()}
    shapes = {name: tuple(tensor.shape) if _is_dense(tensor) else None for name, tensor in weights.items()}
    different = [name for name in wanted.keys() | shapes.keys() if wanted.get(name) != shapes.get(name, ())]
    if different or wanted.keys() != shapes.keys():
        name = min(map(str, different or wanted.keys() ^ shapes.keys()))
        raise CheckpointError(
            f"{path}: the checkpoint is damaged: of weight {name!r} its configuration asks for the shape "
            f"{wanted.get(name, 'of no such weight')}, the file has {shapes.get(name) or 'none'}"
        )


def _is_dense(tensor: Any) -> bool:
    """Whether it is a tensor that a weight can be copied from."""
    return isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.layout == torch.strided


def save(
    path: str | Path,
    model: CAFlow,
    *,
    ema: Mapping[str, torch.Tensor] | None = None,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint: whole or not at all, even if the process is killed.

    Arguments:
        ema: averaged weights, by the names of `model.state_dict()`; `load` prefers them.
        training: what the trainer needs to resume (plain values and tensors).
    """
    contents = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "config": config_to_dict(model.config),
        "weights": {name: _compact(tensor) for name, tensor in model.state_dict().items()},
        "ema": dict(ema) if ema is not None else None,
        "training": dict(training) if training is not None else None,
    }
    with whole_file(Path(path)) as partial, partial.open("wb") as file:
        torch.save(contents, file)


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    """A float32 tensor as halves, where they hold it: loading widens them."""
    halves = tensor.half()
    return halves if tensor.dtype == torch.float32 and torch.equal(halves.float(), tensor) else tensor
