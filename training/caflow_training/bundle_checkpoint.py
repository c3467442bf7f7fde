"""A checkpoint that shares its weights with an exported bundle, so that no weight is stored twice.

The exporter writes `checkpoint.json` beside the graphs. It holds what a checkpoint file holds, but instead of each
weight the places in `weights.bin` where its values are: the graphs need most of them anyway, though often cut along
their input channels and set side by side with others.
"""

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
MOST_BYTES = 64 * 2**20
"""Of `checkpoint.json`: it is read whole."""
DTYPES: dict[str, np.dtype[Any]] = {"float16": np.dtype("<f2"), "float32": np.dtype("<f4")}


class DamagedBundle(ValueError):
    """A bundle's checkpoint cannot be put together."""


class Piece(NamedTuple):
    """Some input channels of a weight: a contiguous array (rows, channels, …) in `weights.bin`."""

    dtype: Literal["float16", "float32"]
    offset: Annotated[int, Field(ge=0, lt=2**63)]
    """Bytes from the beginning of the file."""
    channels: PositiveInt


class StoredWeight(BaseModel):
    """Where a weight is: its pieces, side by side along axis 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    shape: Annotated[list[PositiveInt], Field(max_length=4)]
    pieces: list[Piece]


class StoredCheckpoint(BaseModel):
    """`checkpoint.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: str
    version: int
    """Of the checkpoint that is put together, as in a checkpoint file."""
    config: dict[str, Any]
    training: dict[str, Any] | None
    weights: dict[str, StoredWeight]
    sha256: str
    """`digest` of the weights."""


def read(folder: Path) -> dict[str, Any]:
    """Return the contents of a bundle's checkpoint as those of a checkpoint file; weights are float32.

    Raises:
        FileNotFoundError: if the folder has no `checkpoint.json` or no `weights.bin`.
        DamagedBundle: if the two do not describe the weights that were exported.
    """
    path = folder / NAME
    if path.stat().st_size > MOST_BYTES:
        raise DamagedBundle(f"{path}: wanted at most {MOST_BYTES} bytes")
    try:
        stored = StoredCheckpoint.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise DamagedBundle(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    try:
        data = np.memmap(folder / WEIGHTS, np.uint8, "r")
        if sum(math.prod(weight.shape) for weight in stored.weights.values()) > data.size // 2:
            raise ValueError("their shapes are larger than the file")
        arrays = {name: _put_together(data, weight) for name, weight in stored.weights.items()}
    except ValueError as error:  # NumPy's too: of an empty file, and of pieces that end after it or do not fit together
        raise DamagedBundle(f"{path}: no weights can be put together from {folder / WEIGHTS}: {error}") from None
    if digest(arrays) != stored.sha256:
        raise DamagedBundle(f"{path}: the weights are not those that were exported")
    return {
        "format": stored.format,
        "version": stored.version,
        "config": stored.config,
        "weights": {name: torch.from_numpy(array) for name, array in arrays.items()},
        "ema": None,
        "training": stored.training,
    }


def digest(weights: Mapping[str, NDArray[np.float32]]) -> str:
    """Return the SHA-256 of all weights, in the order of their names."""
    found = sha256()
    for name in sorted(weights):
        found.update(name.encode() + b"\0" + np.ascontiguousarray(weights[name], "<f4").tobytes())
    return found.hexdigest()


def as_rows(weight: NDArray[Any]) -> NDArray[Any]:
    """Return a weight as (rows, channels, rest): the shape that pieces are cut from."""
    rows, channels = (*weight.shape, 1, 1)[:2]
    return weight.reshape(rows, channels, -1)


def _put_together(data: NDArray[np.uint8], weight: StoredWeight) -> NDArray[np.float32]:
    rows, channels, *rest = (*weight.shape, 1, 1)
    if sum(piece.channels for piece in weight.pieces) != channels:
        raise ValueError(f"{len(weight.pieces)} pieces have other channels than the weight's {channels}")
    parts = []
    for piece in weight.pieces:
        shape = (rows, piece.channels, math.prod(rest))
        part = np.frombuffer(data, DTYPES[piece.dtype], math.prod(shape), piece.offset).reshape(shape)
        parts.append(part.astype(np.float32))
    return np.concatenate(parts, axis=1).reshape(weight.shape)
