"""The bundle: a folder that holds a model for deployment. Format: `docs/reference/bundle.md`.

Reading is strict: a bundle that is wrong in any way is refused, each way by its own exception.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

FORMAT = "caflow-bundle"
FORMAT_VERSION = 1
MOST_LEVELS = 15
"""2 ** (levels + 1) divides the size multiple, which is a `Count`."""
LARGEST_SIZE = 2**31 - 1

Count = Annotated[int, msgspec.Meta(ge=1, le=2**16)]
PrecisionName = Literal["fp32", "fp16", "bf16", "int8"]
Positive = Annotated[float, msgspec.Meta(gt=0)]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the manifest; unknown fields are errors."""


class File(Strict, frozen=True):
    """A file of the bundle."""

    path: str
    """Relative to the folder, with forward slashes."""
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: str


class Port(Strict, frozen=True):
    """An input or output of a graph."""

    name: str
    type: Literal["float32", "float16", "bfloat16", "uint8", "int64"]
    shape: list[int | str]
    """A number, a name of a dynamic size, or "k*name"."""


class Graph(Strict, frozen=True):
    """One ONNX file."""

    name: str
    file: File
    inputs: list[Port]
    outputs: list[Port]
    operations_per_pixel: float
    """Multiplications and additions of its convolutions per row (`encode`: per image) and target pixel."""


class Model(Strict, frozen=True):
    """The numbers that a runtime needs."""

    task: str
    task_settings: dict[str, Any]
    scale: Count
    """Target side / condition side."""
    size_multiple: Count
    """Target height and width must be multiples of this."""
    levels: Annotated[int, msgspec.Meta(ge=1, le=MOST_LEVELS)]
    channels: Count
    residual: bool
    dependencies: Literal["unshared", "shared", "dual-glow"]
    noise_channels: list[list[Count]]
    """Of each level j, the channels of z[i, j] for i = j, j + 1, …, side by side in the input z."""


class Measurement(Strict, frozen=True):
    """One comparison of a graph, or of the chain, with PyTorch in float64."""

    graph: str
    what: str
    max_error: float
    mean_error: float
    tolerance: Positive
    verified_with: str


class Source(Strict, frozen=True):
    """Where the model came from."""

    checkpoint_sha256: str
    checkpoint_format: str
    training: dict[str, Any]
    exporter_version: str


class Manifest(Strict, frozen=True):
    """`manifest.json`."""

    format: str
    format_version: int
    precision: PrecisionName
    """Of the networks; the flow's state is float32."""
    model: Model
    graphs: list[Graph]
    weights: list[File]
    verification: list[Measurement]
    source: Source

    def graph(self, name: str) -> Graph:
        """The graph of that name, or KeyError."""
        return {graph.name: graph for graph in self.graphs}[name]


def files_of(manifest: Manifest) -> list[File]:
    """All files that the manifest names."""
    return [graph.file for graph in manifest.graphs] + list(manifest.weights)


def json_schema() -> dict[str, Any]:
    """The JSON schema of the manifest."""
    return msgspec.json.schema(Manifest)


def graph_names(levels: int) -> list[str]:
    """The graphs that every bundle of a model with so many levels holds."""
    per_level = ("decode", "reverse", "forward", "likelihood")
    return ["encode", *(f"{name}_{j}" for name in per_level for j in range(levels)), "to_image"]


def cell_side(model: Model, graph: str) -> int:
    """Side in target pixels of what is one `h` and one `w` in the shapes of a graph."""
    name, _, level = graph.rpartition("_")
    if name in ("decode", "likelihood"):
        return int(2 ** (model.levels - int(level) + 1))
    if name in ("reverse", "forward"):
        return int(2 ** (model.levels - int(level)))
    return model.size_multiple if graph == "encode" else 2


def size_of(size: int | str, known: Mapping[str, int]) -> int:
    """A size of a port's shape, where the named ones are known."""
    if isinstance(size, int):
        return size
    factor, _, name = size.rpartition("*")
    return int(factor or 1) * known[name]
