"""Storage of the weights of all ONNX graphs in one file, where equal weights are stored once."""

import os
from collections import defaultdict
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from caflow_runtime.bundle.stored_checkpoint import WEIGHTS, Piece, StoredWeight, as_rows

ALIGNMENT_BYTES = 64
INLINE_BYTES = 1024
"""Largest size of a constant that stays in the graph."""
KEY_BYTES = 32
"""Length of a row's beginning by which the row is looked up. Shorter rows may be missed; they are then stored again."""


class WeightStore:
    """Writes weights to one file. A weight that the file already contains is not written again."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._places: dict[bytes, tuple[int, int]] = {}
        self._rows: dict[bytes, list[tuple[int, int]]] = defaultdict(list)
        """Offset and length, in bytes, of the rows of all weights, by the rows' first bytes."""

    def move_out(self, proto: onnx.ModelProto) -> None:
        """Move the large initializers of a graph to the file, and make the graph refer to them.

        Float32 weights whose values are exact in float16 are stored as float16. A Cast node widens them, and runtimes
        fold this node when they load the graph.
        """
        for tensor in proto.graph.initializer:
            data = tensor.raw_data or onnx.numpy_helper.to_array(tensor).tobytes()
            if len(data) <= INLINE_BYTES:
                continue
            if tensor.data_type == TensorProto.FLOAT and (narrow := _as_halves(data)) is not None:
                data, tensor.data_type, wide = narrow, TensorProto.FLOAT16, tensor.name
                tensor.name = f"{wide}_half"
                proto.graph.node.insert(0, onnx.helper.make_node("Cast", [tensor.name], [wide], to=TensorProto.FLOAT))
            offset, length = self._place(data, tensor.dims[0])
            for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data"):
                tensor.ClearField(field)
            tensor.data_location = TensorProto.EXTERNAL
            del tensor.external_data[:]
            for key, value in (("location", WEIGHTS), ("offset", str(offset)), ("length", str(length))):
                tensor.external_data.append(onnx.StringStringEntryProto(key=key, value=value))

    def keep(self, weight: NDArray[np.float32]) -> StoredWeight:
        """Return where a model's weight is in the file. Write the weight if the file does not contain all its parts.

        A graph contains the weight as a whole or in parts, cut along the input channels. Parts of several weights are
        often joined along the output channels, so the rows of each part still follow one another.
        """
        narrow = _as_halves(weight.tobytes())
        values = as_rows(weight if narrow is None else np.frombuffer(narrow, np.float16).reshape(weight.shape))
        pieces: list[Piece] = []
        while (done := sum(piece.channels for piece in pieces)) < values.shape[1]:
            found = self._find(values[:, done:])
            if found is None:
                offset, _ = self._place(values.tobytes(), len(values))
                pieces = [Piece(_dtype(values), offset, values.shape[1])]
                break
            pieces.append(found)
        return StoredWeight(shape=list(weight.shape), pieces=pieces)

    def flush(self) -> None:
        """Flush the file, so that other readers see everything that was written."""
        self._file.flush()

    def _find(self, rows: NDArray[Any]) -> Piece | None:
        """Return where the first channels of `rows`, (rows, channels, rest), are stored unchanged, or None."""
        bytes_per_channel = rows.shape[2] * rows.itemsize
        for offset, length in self._rows.get(rows[0].tobytes()[:KEY_BYTES], ()):
            channels = length // bytes_per_channel
            if channels * bytes_per_channel != length or not 0 < channels <= rows.shape[1]:
                continue
            wanted = rows[:, :channels].tobytes()
            self._file.seek(offset)
            if self._file.read(len(wanted)) == wanted:
                return Piece(_dtype(rows), offset, channels)
        return None

    def _place(self, data: bytes, rows: int) -> tuple[int, int]:
        key = sha256(data).digest()
        if key not in self._places:
            self._file.seek(0, os.SEEK_END)
            self._file.write(bytes(-self._file.tell() % ALIGNMENT_BYTES))
            offset, length = self._file.tell(), len(data) // rows
            self._places[key] = (offset, len(data))
            for row in range(rows):
                begin = row * length
                self._rows[data[begin : begin + min(length, KEY_BYTES)]].append((offset + begin, length))
            self._file.write(data)
        return self._places[key]


def load_whole(path: Path) -> onnx.ModelProto:
    """Return a graph of a bundle with its weights inside.

    `onnx.load` cannot be used for this, because it rejects files with several hard links, which some installers create.
    """
    proto = onnx.load(path, load_external_data=False)
    with (path.parent / WEIGHTS).open("rb") as file:
        for tensor in proto.graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                place = {entry.key: entry.value for entry in tensor.external_data}
                file.seek(int(place["offset"]))
                tensor.raw_data = file.read(int(place["length"]))
                tensor.data_location = TensorProto.DEFAULT
                del tensor.external_data[:]
    return proto


def widen(proto: onnx.ModelProto) -> None:
    """Replace float16 weights and their Cast nodes by float32 weights, in a graph with its weights inside.

    TensorRT uses a slower convolution if the weight is the output of a node.
    """
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    casts = [node for node in proto.graph.node if node.op_type == "Cast" and node.input[0] in stored]
    for node in casts:
        tensor = stored[node.input[0]]
        wide = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(wide, node.output[0]))
        proto.graph.node.remove(node)


def _dtype(values: NDArray[Any]) -> Literal["float16", "float32"]:
    return "float16" if values.dtype == np.float16 else "float32"


def _as_halves(data: bytes) -> bytes | None:
    """Return float32 values as float16, or None if float16 cannot represent all of them exactly."""
    values = np.frombuffer(data, np.float32)
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    return halves.tobytes() if np.array_equal(halves, values) else None
