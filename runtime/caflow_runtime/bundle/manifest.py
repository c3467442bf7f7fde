"""The bundle: a folder that holds a model for deployment. Format: `runtime/README.md`.

Reading is strict: a bundle that is wrong in any way is refused, each way by its own exception.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from os.path import realpath
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from caflow_runtime.bundle.builtin import names
from caflow_runtime.bundle.external_data import WrongGraph, external_files
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.errors import CaflowError
from caflow_runtime.strict_json import WrongJson, convert, parse_json

FORMAT = "caflow-bundle"
FORMAT_VERSION = 1
MANIFEST_BYTES = 4 * 2**20
"""A larger manifest is refused unread."""

HASH_BLOCK_BYTES = 2**20
GRAPH_BYTES = 16 * 2**20
"""A larger ONNX file is refused unread: weights are not in it."""
PATH_BYTES = 255
"""A longer path is refused: no file system would take its last part."""
MOST_LEVELS = 15
"""2 ** (levels + 1) divides the size multiple, which is a `Count`."""
LARGEST_SIZE = 2**31 - 1
AXES, SHARE_AXES = 4, 3
"""Of what graphs hand on, and of their shares."""
SIZE = re.compile(r"([1-9][0-9]{0,4}\*)?[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
"""A name, or a multiple of one."""

CHECKPOINTS = (".pt", ".pth", ".ckpt")
"""What their names end in."""

SETTINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "super-resolution": {"down_filter": ("bicubic", "bilinear")},
    "inpainting": {"mask": ("central", "box", "free-form")},
    "sketch": {"low_threshold": (), "high_threshold": ()},
}
"""Of each task, the settings that a runtime needs, and what they may be; () is any number."""


class BundleError(CaflowError, ValueError):
    """A folder is not a bundle that this version can use."""


class NoBundle(BundleError):
    """There is no folder of that name, or no manifest in it."""


class ManifestTooLarge(BundleError):
    """The manifest is larger than any manifest is."""


class WrongManifest(BundleError):
    """The manifest is not JSON, or a field is missing, unknown or of the wrong type."""


class UnknownFormat(BundleError):
    """The manifest is of another format or another version of it."""


class PathOutside(BundleError):
    """The manifest names a file that is not inside the folder."""


class MissingFile(BundleError):
    """A file that the manifest names is not there."""


class TruncatedFile(BundleError):
    """A file is not as long as the manifest says."""


class WrongHash(BundleError):
    """A file's contents are not those that the manifest was written for."""


class MissingGraph(BundleError):
    """The manifest lacks a graph that a model of its levels needs."""


class UnlistedFile(BundleError):
    """A graph reads weights from a file that the manifest does not list."""


class WrongShape(BundleError):
    """A graph's input or output is not of the shape or type that the model's numbers, or the manifest, give."""


class BrokenGraph(BundleError):
    """A backend cannot load a graph, though the file is the one that the manifest was written for."""


Count = Annotated[int, msgspec.Meta(ge=1, le=2**16)]
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
    precision: Literal["fp32", "fp16", "bf16"]
    """Of the networks; the flow's state is float32."""
    model: Model
    graphs: list[Graph]
    weights: list[File]
    verification: list[Measurement]
    source: Source

    def graph(self, name: str) -> Graph:
        """The graph of that name, or KeyError."""
        return {graph.name: graph for graph in self.graphs}[name]


def read_manifest(folder: str | Path) -> Manifest:
    """The manifest of a bundle, checked but for the contents of the files that it names.

    Raises:
        BundleError: one of its subclasses for each way in which it can be wrong.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise NoBundle(_why_none(folder))
    if (size := path.stat().st_size) > MANIFEST_BYTES:
        raise ManifestTooLarge(f"{path}: wanted at most {MANIFEST_BYTES} bytes, got {size}")
    return parse_manifest(path.read_bytes(), path)


def parse_manifest(text: bytes, path: Path) -> Manifest:
    """Return the manifest that a text holds, checked but for the files that it names.

    Arguments:
        path: of the manifest. Links beside it must not lead out of its folder.

    Raises:
        BundleError
    """
    try:
        contents = parse_json(text, object)
        _check_format(path, contents)
        manifest = convert(contents, Manifest)
    except WrongJson as error:
        raise WrongManifest(f"{path}: {error}") from None
    _check_names(path, manifest)
    _check_sizes(path, manifest)
    _check_model(path, manifest.model)
    _check_graphs(path, manifest)
    for file in files_of(manifest):
        check_path(path, file)
    return manifest


def verify_files(folder: str | Path, manifest: Manifest) -> None:
    """Check that every file is there, whole, and the one that the manifest was written for; and that graphs read no
    other.

    Raises:
        MissingFile, TruncatedFile, WrongHash, BrokenGraph, UnlistedFile
    """
    for file in files_of(manifest):
        path = Path(folder) / file.path
        if not path.is_file():
            raise MissingFile(f"{path}: the manifest names this file, but it is not there: export the model again")
        if (size := path.stat().st_size) != file.bytes:
            raise TruncatedFile(f"{path}: wanted {file.bytes} bytes, got {size}: copy or export the bundle again")
        if (found := sha256_of(path)) != file.sha256:
            raise WrongHash(f"{path}: wanted SHA-256 {file.sha256}, got {found}: copy or export the bundle again")
    for graph in manifest.graphs:
        _check_external_data(Path(folder) / graph.file.path, graph.file, manifest.weights)


def write_manifest(folder: str | Path, manifest: Manifest) -> None:
    """Write `manifest.json`, indented for readers."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (Path(folder) / MANIFEST).write_bytes(text + b"\n")


def files_of(manifest: Manifest) -> list[File]:
    """All files that the manifest names."""
    return [graph.file for graph in manifest.graphs] + list(manifest.weights)


def describe_file(folder: Path, name: str) -> File:
    """A file of the folder as the manifest names it."""
    path = folder / name
    return File(path=name, bytes=path.stat().st_size, sha256=sha256_of(path))


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


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


def _why_none(folder: Path) -> str:
    """Why there is no bundle at a path, and what to do."""
    if folder.is_file() and folder.suffix.lower() in CHECKPOINTS:
        return f"{folder}: wanted a bundle, got a checkpoint: export it first, with caflow-export {folder}"
    if folder.exists():
        return f"{folder}: wanted a bundle, but there is no {MANIFEST} in it: export a checkpoint to make one"
    return (
        f"{folder}: there is no such folder: give one that caflow-export wrote, or the name of a built-in model: "
        f"{', '.join(names())}"
    )


def _check_external_data(path: Path, file: File, weights: list[File]) -> None:
    """Whatever else an ONNX file reads would come from outside of what is hashed."""
    if file.bytes > GRAPH_BYTES:
        raise BrokenGraph(f"{path}: wanted at most {GRAPH_BYTES} bytes, with weights in a file of their own")
    folder = "".join(file.path.rpartition("/")[:2]).encode()
    listed = {one.path.encode() for one in weights}
    try:
        for location in external_files(path.read_bytes()):
            if folder + location not in listed:
                name = location[:PATH_BYTES].decode(errors="backslashreplace")
                raise UnlistedFile(
                    f"{path}: reads weights from {name!r}, which the manifest does not list: export the model again"
                )
    except WrongGraph as error:
        raise BrokenGraph(f"{path}: {error}: export the model again") from None


def _check_format(path: Path, contents: object) -> None:
    """Before the fields, which another version may name otherwise."""
    found = (contents.get("format"), contents.get("format_version")) if isinstance(contents, dict) else (None, None)
    if found != (FORMAT, FORMAT_VERSION):
        raise UnknownFormat(
            f"{path}: wanted format {FORMAT!r} version {FORMAT_VERSION}, got {found[0]!r} version {found[1]!r}: "
            "use the version of caflow-deploy that wrote it, or export the checkpoint again"
        )


def _check_names(path: Path, manifest: Manifest) -> None:
    """Each is there once: else readers would take different ones."""

    def check(what: str, names: Iterable[str]) -> None:
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise WrongManifest(f"{path}: wanted {what} of different names, got {twice[0]!r} twice")

    check("graphs", (graph.name for graph in manifest.graphs))
    for graph in manifest.graphs:
        check(f"inputs of {graph.name}", (port.name for port in graph.inputs))
        check(f"outputs of {graph.name}", (port.name for port in graph.outputs))


def _check_sizes(path: Path, manifest: Manifest) -> None:
    for graph in manifest.graphs:
        for port in (*graph.inputs, *graph.outputs):
            for size in port.shape:
                if not (SIZE.fullmatch(size) if isinstance(size, str) else 1 <= size <= LARGEST_SIZE):
                    raise WrongManifest(
                        f"{path}: {graph.name}: {port.name}: wanted sizes such as 3, 'h' or '2*h', got {size!r}"
                    )


def _check_model(path: Path, model: Model) -> None:
    """Numbers that must fit each other, and settings that the runtime reads."""
    if model.size_multiple % 2 ** (model.levels + 1) or model.size_multiple % model.scale:
        raise WrongManifest(
            f"{path}: with {model.levels} levels and a scale of {model.scale} wanted a size_multiple of "
            f"{2 ** (model.levels + 1)} and of {model.scale}, got {model.size_multiple}"
        )
    for key, kinds in SETTINGS.get(model.task, {}).items():
        value = model.task_settings.get(key)
        if value not in kinds if kinds else not isinstance(value, int | float):
            wanted = f"one of {', '.join(kinds)}" if kinds else "a number"
            raise WrongManifest(f"{path}: task_settings of {model.task!r}: wanted {key} to be {wanted}, got {value!r}")


def _check_graphs(path: Path, manifest: Manifest) -> None:
    model = manifest.model
    by_name = {graph.name: graph for graph in manifest.graphs}
    missing = [name for name in graph_names(model.levels) if name not in by_name]
    if missing:
        raise MissingGraph(f"{path}: with {model.levels} levels wanted the graph {missing[0]!r}, it is not listed")
    if len(model.noise_channels) != model.levels:
        raise WrongShape(f"{path}: wanted noise_channels of {model.levels} levels, got {len(model.noise_channels)}")
    for j, channels in enumerate(model.noise_channels):
        if not 1 <= len(channels) <= model.levels - j:
            raise WrongShape(
                f"{path}: wanted noise_channels of level {j} for 1 to {model.levels - j} levels, got {len(channels)}"
            )
        _check_port(path, by_name[f"decode_{j}"].inputs, f"decode_{j}", "z", ["rows", sum(channels), "h", "w"])
    finest = f"reverse_{model.levels - 1}"
    _check_port(path, by_name[finest].outputs, finest, "pixels", ["rows", "2*h", "2*w", model.channels])
    multiple = model.size_multiple // model.scale
    sides = [f"{multiple}*h", f"{multiple}*w"] if multiple > 1 else ["h", "w"]
    _check_port(path, by_name["encode"].inputs, "encode", "condition", ["images", *sides, model.channels])
    for name, outputs in needed_outputs(model.levels).items():
        if name in by_name:  # dequantize need not be
            _check_outputs(path, by_name[name], outputs)


def needed_outputs(levels: int) -> dict[str, dict[str, str]]:
    """Of each graph, the outputs that the chain cannot do without, and their types."""
    outputs = {"encode": {"prepared": "uint8"}, "to_image": {"integers": "uint8"}}
    outputs["dequantize"] = dict.fromkeys(("pixels", "share"), "float32")
    for j in range(levels):
        carried = ["next_carry"] if j > 0 else []
        names = {
            "decode": ["latent", "share"],
            "reverse": ["pixels" if j == levels - 1 else "next_carry", "share"],
            "forward": ["latent", *carried, "share"],
            "likelihood": ["z", "share"],
        }
        outputs |= {f"{name}_{j}": dict.fromkeys(of_graph, "float32") for name, of_graph in names.items()}
    return outputs


def _check_outputs(path: Path, graph: Graph, outputs: Mapping[str, str]) -> None:
    """Those that the chain reads; their shapes as far as all models have them."""
    ports = {port.name: port for port in graph.outputs}
    first = "images" if graph.name == "encode" else "rows"
    for name, wanted in outputs.items():
        axes = SHARE_AXES if name == "share" else AXES
        port = ports.get(name)
        if port is None or port.type != wanted or port.shape[:1] != [first] or len(port.shape) != axes:
            raise WrongShape(
                f"{path}: wanted {graph.name} with the output {name} of {wanted} and {axes} sizes, the first of them "
                f"{first!r}, got {port and (port.type, port.shape)}"
            )


def _check_port(path: Path, ports: list[Port], graph: str, name: str, shape: list[int | str]) -> None:
    found = next((port.shape for port in ports if port.name == name), None)
    if found != shape:
        raise WrongShape(f"{path}: wanted {graph} with {name} of shape {shape}, got {found}")


def check_path(path: Path, file: File) -> None:
    """Whether a file that `path` names is below the folder of `path`.

    Raises:
        PathOutside
    """
    is_plain = len(file.path.encode()) <= PATH_BYTES and not re.search(r"[\x00-\x1f\x7f\\:]", file.path)
    if not is_plain or any(part in ("", ".", "..") for part in file.path.split("/")):
        raise PathOutside(f"{path}: {file.path[: PATH_BYTES + 1]!r} is not a path inside the bundle")
    if not Path(realpath(path.parent / file.path)).is_relative_to(realpath(path.parent)):
        raise PathOutside(f"{path}: {file.path!r} leads out of the bundle")
