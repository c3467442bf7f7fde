"""The manifest of a bundle, a folder that contains a model for deployment. Format: `docs/reference/bundle.md`.

Reading is strict: an invalid bundle is rejected, with a different exception for each kind of error.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

FORMAT = "caflow-bundle"
FORMAT_VERSION = 3
MAX_LEVELS = 15
"""Maximum number of levels: the size multiple is a `Count` and must be a multiple of 2 ** (levels + 1)."""
LARGEST_SIZE = 2**31 - 1
PER_IMAGE = ("encode", "estimate")
"""Graphs that run once for each image, whatever the number of samples."""
DEGRADE = "degrade"
"""Graph that makes the condition of a result again. Bundles whose degradation cannot be repeated have none."""

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
    """Number of multiplications and additions of the graph's convolutions, per item and target pixel; of
    `PER_IMAGE`: per image and target pixel."""


class Sampling(Strict, frozen=True):
    """Settings that a model is best used with. They apply where a caller sets no others."""

    temperature: Annotated[float, msgspec.Meta(ge=0)]
    """Temperature τ of all levels."""
    rank: Literal["likelihood", "consistency", "typical"]
    """Criterion for the best sample."""


DEFAULT_SAMPLING = Sampling(temperature=0.8, rank="likelihood")
"""Settings of a model that was exported without others."""


class ModelInput(Strict, frozen=True):
    """An input beside the image, which callers may pass by its name."""

    name: Literal["mask", "hints"]
    """"mask": (H, W) bool, True for the pixels to fill in. "hints": (H, W, 4) uint8 RGBA, opaque where a colour is
    given."""
    preparation: Literal["fill", "propagate"]
    """How the input becomes part of the condition. "fill": its pixels are filled first, by patches or smoothly.
    "propagate": the colours are propagated over the image."""


class Model(Strict, frozen=True):
    """Properties of the model that a runtime needs."""

    task: str
    """Name of the task, for people and for evaluation. No runtime depends on it."""
    description: str
    """What the model does, in a few words for its users."""
    condition_color: Literal["rgb", "gray"]
    """Which colours of the condition the model sees; "gray" is the luma alone."""
    keeps_gray: bool
    """Whether results of grey inputs are grey."""
    inputs: list[ModelInput]
    """Inputs that the model takes beside the image. Callers may omit them."""
    can_be_tiled: bool
    """Whether images may be padded and cut into tiles. Models that fill in the middle of an image need all of it."""
    sampling: Sampling
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
    condition_channels: Literal[3, 4] = 3
    """Number of channels of conditions. The fourth is a mask: it is 128 or more where the target has the values of the
    other three, which are a first guess elsewhere."""
    known_channels: list[Literal[0, 1, 2]] = []
    """Channels of targets that are equal to those of the condition in all pixels. For models with a mask."""
    color_space: Literal["rgb", "ycbcr"] = "rgb"
    """Colours of conditions and targets. "ycbcr" is that of JPEG."""
    reduction: Count = 1
    """Sides of an image, divided by those of the condition that is prepared from it."""


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

    @property
    def has_consistency(self) -> bool:
        """Whether the bundle can make the condition of a result again, and so compare the two."""
        return any(graph.name == DEGRADE for graph in self.graphs)

    @property
    def without_consistency(self) -> str:
        """Message about a bundle that cannot compare results with their conditions."""
        return f"this model, of the task {self.model.task!r}, has no graph {DEGRADE!r} that makes a condition again"

    @property
    def reads_condition(self) -> bool:
        """Whether the graph `degrade` reads the condition, because the degradation is random."""
        return self.has_consistency and any(port.name == "condition" for port in self.graph(DEGRADE).inputs)

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
    if graph == DEGRADE:
        return model.scale
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
