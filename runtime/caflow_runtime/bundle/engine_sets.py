"""Finished engines of a bundle, which are kept as engine sets in its folder `engines/`.

An engine is a graph that TensorRT compiled for one kind of GPU: an ONNX file with one node, which an execution provider
of ONNX Runtime loads. Each set is for one TensorRT flavor, one version and one kind of GPU. A set is a cache that can
be rebuilt. A set that does not match is reported and never loaded. The `engines.json` of a set contains the hash of the
manifest, which in turn contains the hashes of all graphs and weights.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from caflow_runtime.bundle.bundle_errors import PathOutside
from caflow_runtime.bundle.engine_model import check_engine_model
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest import (
    DEGRADE,
    Count,
    File,
    Graph,
    Manifest,
    Measurement,
    Model,
    PrecisionName,
    Strict,
    cell_side,
    size_of,
)
from caflow_runtime.bundle.manifest_checks import check_path
from caflow_runtime.bundle.onnx_fields import WrongGraph
from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.errors import BackendError
from caflow_runtime.file_io.strict_json import WrongJson, read_json

FORMAT: Literal["caflow-engines"] = "caflow-engines"
FORMAT_VERSION: Literal[2] = 2
FOLDER = "engines"
DESCRIPTION = "engines.json"

Flavor = Literal["tensorrt", "rtx"]
NAMES: dict[Flavor, str] = {"tensorrt": "TensorRT", "rtx": "TensorRT-RTX"}


class Profile(Strict, frozen=True):
    """Range of sizes that an engine supports: from one item of the model's smallest target up to these maximums."""

    batch_size: Count
    """Number of items in one run."""
    height: Count
    """Height of the target, in pixels."""
    width: Count
    """Width of the target, in pixels."""


DEFAULT_PROFILE = Profile(4, 512, 512)
"""Range of engines by default. TensorRT reserves memory for the largest sizes, so all items together have 2²⁰ pixels,
as the default pixel budget; and few large tiles take less time than many small ones, whose overlaps are computed twice.
"""


class Engine(Strict, frozen=True):
    """The engine of one graph."""

    graph: str
    file: File


class EngineSet(Strict, frozen=True, kw_only=True, omit_defaults=False):
    """Contents of `engines.json`."""

    format: Literal["caflow-engines"] = FORMAT
    format_version: Literal[2] = FORMAT_VERSION
    manifest_sha256: str
    flavor: Flavor
    version: str
    """Version of TensorRT that built the engines."""
    compute_capability: str
    """Compute capability of the GPUs that can run the engines, such as "8.6"."""
    gpu: str | None
    """Name of the GPU model that the engines were built for; None if any GPU of the compute capability can run them."""
    precision: PrecisionName
    profile: Profile
    engines: list[Engine]
    verification: list[Measurement] = msgspec.field(default_factory=list)
    """Measured errors; empty if the engines were built on a machine without such a GPU."""


@dataclass(frozen=True)
class Machine:
    """What an engine set must fit: the TensorRT that loads it, and the GPU."""

    flavor: Flavor
    version: str
    """Version of the TensorRT library. It may have fewer parts than that of a package."""
    compute_capability: str
    gpu: str
    """Name of the GPU."""


@dataclass(frozen=True)
class Found:
    """An engine set in a bundle, and the reason if it cannot be used."""

    folder: Path
    engines: EngineSet | None
    """Description of the set; None if `engines.json` cannot be read."""
    stale: str | None
    """Why no machine can use the engine set, or None. The bundle's hash and the lengths of the files were checked."""


def folder_name(flavor: Flavor, version: str, compute_capability: str, gpu: str | None, precision: str) -> str:
    """Return the name of the folder of an engine set, below `engines/`."""
    name = f"-{re.sub('[^A-Za-z0-9]+', '-', gpu)}" if gpu else ""
    return f"{flavor}-{version}-sm{compute_capability.replace('.', '')}{name}-{precision}"


def find(folder: Path) -> Iterator[Found]:
    """Yield all engine sets of a bundle, sorted by folder name.

    Only the lengths of engine files are checked here. Hashes are checked when an engine is loaded.
    """
    for path in sorted((folder / FOLDER).glob(f"[!.]*/{DESCRIPTION}")):
        try:
            engines = read_json(path, EngineSet)
        except (WrongJson, OSError) as error:
            yield Found(path.parent, None, f"{DESCRIPTION} cannot be read: {error}")
        else:
            try:
                for engine in engines.engines:
                    check_path(path, engine.file)
            except PathOutside as error:
                yield Found(path.parent, None, str(error))
            else:
                yield Found(path.parent, engines, _stale(folder, path.parent, engines))


def set_for(folder: Path, machine: Machine) -> tuple[Path, EngineSet] | None:
    """Return the engine set of a bundle that a machine can run, and its folder.

    The result is None if the bundle has no set of the machine's flavor.

    If there are several, sets that were built for this GPU model are preferred.

    Raises:
        BackendError: if there are sets of the flavor, but none that the machine can run. The message lists them.
    """
    fits: list[tuple[Path, EngineSet]] = []
    others = []
    for found in find(folder):
        if found.engines is not None and found.engines.flavor != machine.flavor:
            continue
        why = found.stale or (found.engines and _why_unfit(found.engines, machine))
        if why or found.engines is None:
            others.append(f"{found.folder.name} ({why})")
        else:
            fits.append((found.folder, found.engines))
    if fits:
        return max(fits, key=lambda one: one[1].gpu is not None)
    if not others:
        return None
    raise BackendError(
        f"{folder} has no engines for this {machine.gpu} of compute capability {machine.compute_capability} with "
        f"{NAMES[machine.flavor]} {machine.version}, but it has {', '.join(others)}",
        f"build them with caflow-export {folder} --trt, or delete those sets, so that they are built when first needed",
    )


def check_engine(folder: Path, engine: Engine) -> Path:
    """Check the file of an engine: its hash, and that it contains the engine and nothing else. Return its path.

    Arguments:
        folder: folder of the engine set.

    Raises:
        BackendError: if the file is not the one that `engines.json` describes, or is no engine.
    """
    path = folder / engine.file.path
    again = "build the engines again with caflow-export --trt"
    try:
        contents = path.read_bytes()
    except OSError as error:
        raise BackendError(f"{path} cannot be read: {error.strerror}", again) from None
    if hashlib.sha256(contents).hexdigest() != engine.file.sha256:
        raise BackendError(
            f"{path} is damaged, or was built again since the bundle was opened",
            f"open the bundle again; if that fails, {again}",
        )
    try:
        check_engine_model(contents)
    except WrongGraph as error:
        raise BackendError(f"{path}: {error}", again) from None
    return path


def compiled_graphs(manifest: Manifest) -> list[Graph]:
    """Return the graphs that an engine set has engines for: all but `degrade`, which always runs on the CPU."""
    return [graph for graph in manifest.graphs if graph.name != DEGRADE]


def shape_range(graph: Graph, model: Model, profile: Profile) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return the smallest and the largest shape of each input of a graph whose shape varies, by the input's name."""
    cell = cell_side(model, graph.name)
    smallest, largest = (
        {"items": items, "images": items, "h": height // cell, "w": width // cell}
        for items, height, width in (
            (1, model.size_multiple, model.size_multiple),
            (profile.batch_size, profile.height, profile.width),
        )
    )
    return {
        port.name: (
            tuple(size_of(size, smallest) for size in port.shape),
            tuple(size_of(size, largest) for size in port.shape),
        )
        for port in graph.inputs
        if any(isinstance(size, str) for size in port.shape)
    }


def fitting(profile: Profile, model: Model) -> Profile:
    """Return a profile whose sides are multiples of the model's size multiple, rounded up."""
    multiple = model.size_multiple
    height, width = (-(-side // multiple) * multiple for side in (profile.height, profile.width))
    return Profile(profile.batch_size, height, width)


def write(folder: Path, engines: EngineSet) -> None:
    """Write `engines.json`."""
    (folder / DESCRIPTION).write_bytes(msgspec.json.format(msgspec.json.encode(engines), indent=2) + b"\n")


def _why_unfit(engines: EngineSet, machine: Machine) -> str | None:
    """Return why a machine cannot run an engine set, or None."""
    if not f"{engines.version}.".startswith(f"{machine.version}."):
        return f"built with {NAMES[engines.flavor]} {engines.version}"
    if engines.compute_capability != machine.compute_capability:
        return f"for compute capability {engines.compute_capability}"
    if engines.gpu not in (None, machine.gpu):
        return f"for {engines.gpu}"
    return None


def _stale(bundle_folder: Path, folder: Path, engines: EngineSet) -> str | None:
    """Return why no machine can use an engine set, or None."""
    if engines.manifest_sha256 != sha256_of(bundle_folder / MANIFEST):
        return "built from another export of the model"
    for engine in engines.engines:
        path = folder / engine.file.path
        if not path.is_file() or path.stat().st_size != engine.file.bytes:
            return f"{engine.file.path} is missing or truncated"
    return None
