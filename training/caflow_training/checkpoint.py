"""Checkpoints: files with a model's configuration and weights. Loading a checkpoint executes no code from the file.

`load` also reads Lightning checkpoints of the public reference implementation, and bundles that were exported in
float32.
"""

import argparse
import errno
import io
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, is_zipfile

import torch
from torch import nn

from caflow_runtime.bundle import stored_checkpoint
from caflow_runtime.file_io.atomic_files import write_atomically
from caflow_training import reference_checkpoint
from caflow_training.config import CAFlowConfig, ConfigError, config_from_dict, config_to_dict
from caflow_training.model import CAFlow

FORMAT = "caflow-checkpoint"
FORMAT_VERSION = 1
MAX_STEP = 2**31
"""Largest number of a step."""
MOMENTS = ("exp_avg", "exp_avg_sq")
"""Adam's moving averages of a gradient and of its square."""
LAST_CHECKPOINT = "last.pt"
"""Name of the checkpoint in the output folder of a training run."""
CONTENTS: dict[str, tuple[type, ...]] = {
    "config": (dict,),
    "weights": (dict,),
    "ema": (dict, NoneType),
    "training": (dict, NoneType),
}
"""Keys of a checkpoint in addition to `format` and `version`, with the allowed types of their values."""


class CheckpointError(ValueError):
    """Error for a file that is no checkpoint, is damaged, or has another version."""


def load(path: str | Path) -> CAFlow:
    """Load the model of a checkpoint, on the CPU and in evaluation mode. Averaged weights are used if there are any.

    Raises:
        CheckpointError: if the file is no checkpoint, or is damaged.
        ConfigError: if the configuration is invalid in this version.
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
    """Read the raw contents of a checkpoint of this project, of a bundle, or of the reference implementation.

    No pickled code is executed.

    Raises:
        CheckpointError: if the path is none of these, or is damaged.
    """
    contents = _read_bundle(Path(path)) if Path(path).is_dir() else _read_file(path)
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        if isinstance(contents, dict) and reference_checkpoint.is_reference(contents):
            return contents
        raise CheckpointError(f"{path}: expected a CAFLOW checkpoint; got a file with other contents")
    version = contents.get("version")
    # The type is checked first: a damaged file may contain a tensor, whose comparison is no bool.
    if not isinstance(version, int) or version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: expected checkpoint version {FORMAT_VERSION}; got {version}: "
            "load the checkpoint with the version of caflow-deploy that wrote it"
        )
    for key, kinds in CONTENTS.items():
        if key not in contents or not isinstance(contents[key], kinds):
            raise CheckpointError(
                f"{path} is damaged: the entry {key!r} is missing or is no table; restore the file from a copy"
            )
    return contents


def _read_bundle(folder: Path) -> dict[str, Any]:
    try:
        stored, weights = stored_checkpoint.read_checkpoint(folder)
    except FileNotFoundError:
        if (folder / LAST_CHECKPOINT).is_file():
            raise CheckpointError(
                f"{folder} is the folder of a training run; did you mean {folder / LAST_CHECKPOINT}?"
            ) from None
        raise CheckpointError(
            f"{folder}: expected a checkpoint or a bundle with a checkpoint; the folder has no "
            f"{stored_checkpoint.NAME} with {stored_checkpoint.WEIGHTS}: export the model with --precision fp32, "
            "which writes both files"
        ) from None
    except stored_checkpoint.DamagedCheckpoint as error:
        raise CheckpointError(str(error)) from None
    return {
        "format": stored.format,
        "version": stored.version,
        "config": stored.config,
        "weights": {name: torch.from_numpy(array) for name, array in weights.items()},
        "ema": None,
        "training": stored.training,
    }


def _read_file(path: str | Path) -> Any:
    """Load a file with `torch.load`, which executes no code from the file."""
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        damaged = _damaged_part(Path(path))
        # Files of the reference implementation store their options in this class.
        with torch.serialization.safe_globals([argparse.Namespace]):
            contents = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # damaged pickles can cause exceptions of any class
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: an offset outside the file
            raise
        if "allocate memory" in str(error):
            raise MemoryError(f"{path}: {error}") from None
        # PyTorch's own text is omitted: it recommends to load the file with weights_only=False, which executes code.
        raise CheckpointError(
            f"{path} is not a checkpoint of caflow-train or of the public CAFLOW implementation, or it is damaged"
        ) from None
    if damaged:
        raise CheckpointError(f"{path} is damaged: the checksum of {damaged} differs; restore the file from a copy")
    return contents


def _damaged_part(path: Path) -> str | None:
    """Return the name of the first damaged part of a file, or None. `torch.load` does not check the parts' CRCs.

    Files in the form of PyTorch before 1.6 have no CRCs. PyTorch stores parts uncompressed, one after the other, so
    together they are smaller than the file: to read them takes no longer than to read the file.

    Raises:
        Exception: of any type, if the file is an archive that cannot be read, or that PyTorch does not write.
    """
    if not is_zipfile(path):
        return None
    with ZipFile(path) as archive:
        parts = archive.infolist()
        if any(part.compress_type != ZIP_STORED for part in parts):
            raise BadZipFile("it has compressed parts")
        if sum(part.file_size for part in parts) > path.stat().st_size:
            raise BadZipFile("its parts overlap")
        return archive.testzip()


def check_weights(path: str | Path, config: CAFlowConfig, weights: Mapping[str, Any]) -> None:
    """Check that names and shapes of weights fit the configuration. This requires no memory for the model.

    Raises:
        CheckpointError: if a weight does not fit; the message names the first such weight.
    """
    with torch.device("meta"):
        model = CAFlow(config)
    check_weights_of(path, model, weights)


def check_weights_of(path: str | Path, module: nn.Module, weights: Mapping[str, Any]) -> None:
    """Check that names and shapes of weights are those of a module.

    Raises:
        CheckpointError: if a weight does not fit; the message names the first such weight.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    shapes = {name: tuple(tensor.shape) if _is_dense(tensor) else None for name, tensor in weights.items()}
    different = [name for name in wanted.keys() | shapes.keys() if wanted.get(name) != shapes.get(name, ())]
    if different or wanted.keys() != shapes.keys():
        name = min(map(str, different or wanted.keys() ^ shapes.keys()))
        got = shapes.get(name)  # () is the shape of a scalar
        raise CheckpointError(
            f"{path} is damaged: the shape of weight {name!r} must be {wanted.get(name, 'none')} by its configuration; "
            f"got {'none' if got is None else got}; restore the file from a copy"
        )


def _is_dense(tensor: Any) -> bool:
    """Return whether a value is a dense floating-point tensor in host memory, which can be copied into a weight."""
    is_strided = isinstance(tensor, torch.Tensor) and tensor.is_floating_point() and tensor.layout == torch.strided
    return is_strided and tensor.device.type == "cpu"


def adam_state(path: str | Path, optimizer: torch.optim.Adam, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored state of Adam in the form that `load_state_dict` takes, after checking that it fits.

    Fused Adam does not check the sizes of the moments before it writes to them. The hyperparameters in the file are
    ignored; those of the optimizer are used.

    Raises:
        CheckpointError: if a shape, type, device or step is not one that the parameters can have.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states = stored.get("state")
    if not isinstance(states, dict) or not all(
        isinstance(k, int) and 0 <= k < len(parameters) and _is_of_adam(states[k], parameters[k]) for k in states
    ):
        raise CheckpointError(
            f"{path} is damaged: the state of the optimizer does not fit the weights; restore the file from a copy"
        )
    own = {  # copies, because tensors of a file may share memory
        k: {"step": state["step"].float().clone()}
        | {name: torch.empty_like(parameters[k], device="cpu").copy_(state[name]) for name in MOMENTS}
        for k, state in states.items()
    }
    return {"state": own, "param_groups": optimizer.state_dict()["param_groups"]}


def _is_of_adam(state: Any, parameter: torch.Tensor) -> bool:
    """Return whether a value is Adam's state of a parameter: its step, and its moments."""
    if not isinstance(state, dict) or not all(_is_dense(state.get(name)) for name in ("step", *MOMENTS)):
        return False
    shapes = {tuple(state[name].shape) for name in MOMENTS}
    return shapes == {tuple(parameter.shape)} and state["step"].ndim == 0 and 0 <= float(state["step"]) <= MAX_STEP


def save(
    path: str | Path,
    model: CAFlow,
    *,
    ema: Mapping[str, torch.Tensor] | None = None,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint atomically: if the process is killed, `path` contains the old file or the whole new one.

    Arguments:
        ema: averaged weights, with the names of `model.state_dict()`; `load` uses them instead of the current weights.
        training: state that the trainer requires to resume: plain values and tensors.

    Raises:
        OSError: if the file cannot be written; an existing file is unchanged.
    """
    contents = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "config": config_to_dict(model.config),
        "weights": {name: _compact(tensor) for name, tensor in model.state_dict().items()},
        "ema": dict(ema) if ema is not None else None,
        "training": dict(training) if training is not None else None,
    }
    # In memory, because `torch.save` to a file on a full disk raises a RuntimeError that does not say so.
    stream = io.BytesIO()
    torch.save(contents, stream)
    write_atomically(Path(path), stream.getvalue())


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    """Convert a float32 tensor to float16 if that loses nothing. Loading converts it back."""
    halves = tensor.half()
    return halves if tensor.dtype == torch.float32 and torch.equal(halves.float(), tensor) else tensor
