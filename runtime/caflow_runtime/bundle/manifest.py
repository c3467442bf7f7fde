"""The manifest of a bundle, a folder that contains a model for deployment. Format: `docs/reference/bundle.md`.

Reading is strict: an invalid bundle is rejected, with a different exception for each kind of error.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

FORMAT = "caflow-bundle"
FORMAT_VERSION = 1
MAX_LEVELS = 15
"""Maximum number of levels: the size multiple is a `Count` and must be a multiple of 2 ** (levels + 1)."""
LARGEST_SIZE = 2**31 - 1
PER_IMAGE = ("encode", "estimate")
"""Graphs that run once for each image, whatever the number of samples."""

Count = Annotated[int, msgspec.Meta(ge=1, le=2**16)]
PrecisionName = Literal["fp32", "fp16", "bf16", "int8"]
Positive = Annotated[float, msgspec.Meta(gt=0)]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base class of records in which unknown fields are errors."""


class File(Strict, frozen=True):
    """A file of the bundle, with its length and hash."""

    path: str
    """Path relative to the folder, with forward slashes."""
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: str


class Port(Strict, frozen=True):
    """An input or output of a graph."""

    name: str
    type: Literal["float32", "float16", "bfloat16", "uint8", "int64"]
    shape: list[int | str]
    """Sizes by axis: a number, the name of a dynamic size, or a multiple of a name such as "2*h"."""


class Graph(Strict, frozen=True):
    """A part of the model, stored in one ONNX file."""

    name: str
    file: File
    inputs: list[Port]
    outputs: list[Port]
    operations_per_pixel: float
    """Number of multiplications and additions of the graph's convolutions, per row and target pixel; of
    `PER_IMAGE`: per image and target pixel."""


class Model(Strict, frozen=True):
    """Properties of the model that a runtime needs."""

    task: str
    task_settings: dict[str, Any]
    scale: Count
    """Ratio of the target's sides to the condition's sides."""
    size_multiple: Count
    """Target height and width must be multiples of this."""
    levels: Annotated[int, msgspec.Meta(ge=1, le=MAX_LEVELS)]
    channels: Count
    residual: bool
    dependencies: Literal["unshared", "shared", "dual-glow"]
    noise_channels: list[list[Count]]
    """Number of channels of z[i, j] for i = j, j + 1, …, for each level j. They are concatenated in the input z."""


class Measurement(Strict, frozen=True):
    """Measured error of one graph, or of the whole chain, relative to PyTorch in float64."""

    graph: str
    what: str
    max_error: float
    mean_error: float
    tolerance: Positive
    verified_with: str


class Source(Strict, frozen=True):
    """Origin of the model."""

    checkpoint_sha256: str
    checkpoint_format: str
    training: dict[str, Any]
    exporter_version: str


class Manifest(Strict, frozen=True):
    """Contents of `manifest.json`."""

    format: str
    format_version: int
    precision: PrecisionName
    """Precision of the networks; the flow's state is float32."""
    model: Model
    graphs: list[Graph]
    weights: list[File]
    verification: list[Measurement]
    source: Source

    def graph(self, name: str) -> Graph:
        """Return the graph of that name.

        Raises:
            KeyError: if there is none.
        """
        return {graph.name: graph for graph in self.graphs}[name]


def files_of(manifest: Manifest) -> list[File]:
    """Return all files that the manifest lists."""
    return [graph.file for graph in manifest.graphs] + list(manifest.weights)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of the manifest."""
    return msgspec.json.schema(Manifest)


def graph_names(levels: int) -> list[str]:
    """Return the names of the graphs that are required in every bundle of a model with this many levels."""
    per_level = ("decode", "reverse", "forward", "likelihood")
    return ["encode", *(f"{name}_{j}" for name in per_level for j in range(levels)), "to_image"]


def cell_side(model: Model, graph: str) -> int:
    """Return the side, in target pixels, of a cell: of one unit of `h` and `w` in the shapes of a graph."""
    name, _, level = graph.rpartition("_")
    if name in ("decode", "likelihood"):
        return int(2 ** (model.levels - int(level) + 1))
    if name in ("reverse", "forward"):
        return int(2 ** (model.levels - int(level)))
    return model.size_multiple if graph in PER_IMAGE else 2


def size_of(size: int | str, known: Mapping[str, int]) -> int:
    """Return the value of a size in a port's shape, given the values of the named sizes."""
    if isinstance(size, int):
        return size
    factor, _, name = size.rpartition("*")
    return int(factor or 1) * known[name]
