"""Checkpoint inside an exported bundle. It shares its weights with the graphs, so that no weight is stored twice.

The exporter writes `checkpoint.json` beside the graphs. The file has the contents of a checkpoint file, but instead of
values it has the position of each weight in `weights.bin`. The graphs often use only some input channels of a weight,
and join them with other weights, so a weight may consist of several pieces.
"""

import json
import math
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from caflow_runtime.bundle.manifest import Strict
from caflow_runtime.file_io.strict_json import WrongJson, read_json

NAME = "checkpoint.json"
WEIGHTS = "weights.bin"
MAX_BYTES = 64 * 2**20
"""Largest allowed size of `checkpoint.json`, which is read at once."""
Positive = Annotated[int, Meta(ge=1)]
DTYPES: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}


class DamagedCheckpoint(ValueError):
    """Error for a bundle whose checkpoint is damaged."""


class Piece(NamedTuple):
    """Position of some input channels of a weight: a contiguous array (rows, channels, …) in `weights.bin`."""

    dtype: Literal["float16", "float32"]
    offset: Annotated[int, Meta(ge=0)]
    """Offset from the beginning of the file, in bytes."""
    channels: Positive
    """Number of input channels in this piece."""


class StoredWeight(Strict, frozen=True):
    """Position of a weight: its pieces, which are joined along axis 1."""

    shape: Annotated[list[Positive], Meta(max_length=4)]
    """Shape of the whole weight."""
    pieces: list[Piece]


class StoredCheckpoint(Strict, frozen=True):
    """Contents of `checkpoint.json`."""

    format: str
    """Format of the checkpoint, as in a checkpoint file."""
    version: int
    """Version of the checkpoint format, as in a checkpoint file."""
    config: dict[str, Any]
    training: dict[str, Any] | None
    weights: dict[str, StoredWeight]
    sha256: str
    """SHA-256 of the weights, computed by `digest`."""
    config_sha256: str | None = None
    """SHA-256 of `config`, computed by `digest_of_config`. Bundles of version 1 have none."""


def read_checkpoint(folder: Path) -> tuple[StoredCheckpoint, dict[str, NDArray[np.float32]]]:
    """Return a bundle's checkpoint, and its weights by their names.

    Raises:
        FileNotFoundError: if the folder has no `checkpoint.json` or no `weights.bin`.
        DamagedCheckpoint: if the weights in these files, or the settings, differ from those of the exported model.
    """
    path = folder / NAME
    try:
        stored = read_json(path, StoredCheckpoint, MAX_BYTES)
    except WrongJson as error:
        raise DamagedCheckpoint(f"{path} is damaged: {error}; export the model again") from None
    try:
        data = np.memmap(folder / WEIGHTS, np.uint8, "r")
        if sum(math.prod(weight.shape) for weight in stored.weights.values()) > data.size // 2:
            raise ValueError("the weights' shapes require more values than the file has")
        arrays = {name: _put_together(data, weight) for name, weight in stored.weights.items()}
    except ValueError as error:  # also from NumPy: the file is empty, or pieces end after it or do not fit together
        raise DamagedCheckpoint(
            f"{path} is damaged: no weights can be assembled from {folder / WEIGHTS}: {error}; export the model again"
        ) from None
    if digest(arrays) != stored.sha256:
        raise DamagedCheckpoint(
            f"{path} is damaged: the weights in {WEIGHTS} differ from the exported weights; export the model again"
        )
    if stored.config_sha256 not in (None, digest_of_config(stored.config)):
        raise DamagedCheckpoint(
            f"{path} is damaged: its settings differ from those that were exported; export the model again"
        )
    return stored, arrays


def digest(weights: Mapping[str, NDArray[np.float32]]) -> str:
    """Return the SHA-256 of the names and values of all weights, sorted by name, as a hex string."""
    found = sha256()
    for name in sorted(weights):
        found.update(name.encode() + b"\0" + np.ascontiguousarray(weights[name], "<f4").tobytes())
    return found.hexdigest()


def digest_of_config(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a model's settings, as a hex string."""
    return sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def as_rows(weight: NDArray[Any]) -> NDArray[Any]:
    """Return a weight in the shape (rows, channels, rest). Pieces are slices along the axis of the channels."""
    rows, channels = (*weight.shape, 1, 1)[:2]
    return weight.reshape(rows, channels, -1)


def _put_together(data: NDArray[np.uint8], weight: StoredWeight) -> NDArray[np.float32]:
    rows, channels, *rest = (*weight.shape, 1, 1)
    if sum(piece.channels for piece in weight.pieces) != channels:
        raise ValueError(f"the {len(weight.pieces)} pieces of a weight must have {channels} channels in total")
    parts = []
    for piece in weight.pieces:
        shape = (rows, piece.channels, math.prod(rest))
        part = np.frombuffer(data, DTYPES[piece.dtype], math.prod(shape), piece.offset).reshape(shape)
        parts.append(part.astype(np.float32))
    return np.concatenate(parts, axis=1).reshape(weight.shape)
