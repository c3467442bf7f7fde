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
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

NAME = "checkpoint.json"
WEIGHTS = "weights.bin"
MAX_BYTES = 64 * 2**20
"""Largest allowed size of `checkpoint.json`, which is read at once."""
DTYPES: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}


class DamagedBundle(ValueError):
    """Error for a bundle whose checkpoint is damaged."""


class Piece(NamedTuple):
    """Position of some input channels of a weight: a contiguous array (rows, channels, …) in `weights.bin`."""

    dtype: Literal["float16", "float32"]
    offset: Annotated[int, Field(ge=0, lt=2**63)]
    """Offset from the beginning of the file, in bytes."""
    channels: PositiveInt
    """Number of input channels in this piece."""


class StoredWeight(BaseModel):
    """Position of a weight: its pieces, which are joined along axis 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    shape: Annotated[list[PositiveInt], Field(max_length=4)]
    """Shape of the whole weight."""
    pieces: list[Piece]


class StoredCheckpoint(BaseModel):
    """Contents of `checkpoint.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
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


def read(folder: Path) -> dict[str, Any]:
    """Return the contents of a bundle's checkpoint in the form of a checkpoint file. All weights are float32.

    Raises:
        FileNotFoundError: if the folder has no `checkpoint.json` or no `weights.bin`.
        DamagedBundle: if the weights in these files, or the settings, differ from those of the exported model.
    """
    path = folder / NAME
    if path.stat().st_size > MAX_BYTES:
        raise DamagedBundle(f"{path} is damaged: it has more than {MAX_BYTES} bytes; export the model again")
    try:
        stored = StoredCheckpoint.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise DamagedBundle(
            f"{path} is damaged: {'.'.join(map(str, first['loc']))}: {first['msg']}; export the model again"
        ) from None
    try:
        data = np.memmap(folder / WEIGHTS, np.uint8, "r")
        if sum(math.prod(weight.shape) for weight in stored.weights.values()) > data.size // 2:
            raise ValueError("the weights' shapes require more values than the file has")
        arrays = {name: _put_together(data, weight) for name, weight in stored.weights.items()}
    except ValueError as error:  # also from NumPy: the file is empty, or pieces end after it or do not fit together
        raise DamagedBundle(
            f"{path} is damaged: no weights can be assembled from {folder / WEIGHTS}: {error}; export the model again"
        ) from None
    if digest(arrays) != stored.sha256:
        raise DamagedBundle(
            f"{path} is damaged: the weights in {WEIGHTS} differ from the exported weights; export the model again"
        )
    if stored.config_sha256 not in (None, digest_of_config(stored.config)):
        raise DamagedBundle(f"{path} is damaged: its settings differ from the exported model's; export the model again")
    return {
        "format": stored.format,
        "version": stored.version,
        "config": stored.config,
        "weights": {name: torch.from_numpy(array) for name, array in arrays.items()},
        "ema": None,
        "training": stored.training,
    }


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
