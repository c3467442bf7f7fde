"""TensorRT engines of a bundle, which are kept as engine sets in its folder `engines/`.

Each set is for one TensorRT flavor, one version and one kind of GPU. A set is a cache that can be rebuilt. A set that
does not match is reported and never loaded. The `engines.json` of a set contains the hash of the manifest, which in
turn contains the hashes of all graphs and weights.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import msgspec

from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest import Count, File, Measurement, PrecisionName, Strict
from caflow_runtime.bundle.manifest_checks import check_path
from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.bundle.wrong_bundle import PathOutside
from caflow_runtime.errors import BackendError
from caflow_runtime.strict_json import WrongJson, read_json

FORMAT: Literal["caflow-engines"] = "caflow-engines"
FORMAT_VERSION: Literal[1] = 1
FOLDER = "engines"
DESCRIPTION = "engines.json"

Flavor = Literal["tensorrt", "rtx"]
PACKAGES: dict[Flavor, str] = {"tensorrt": "tensorrt", "rtx": "tensorrt-rtx"}
EXTRAS: dict[Flavor, str] = {"tensorrt": "trt", "rtx": "trt-rtx"}
NAMES: dict[Flavor, str] = {"tensorrt": "TensorRT", "rtx": "TensorRT-RTX"}


class Profile(Strict, frozen=True):
    """Range of sizes that an engine supports: from one row of the model's smallest target up to these maximums."""

    rows: Count
    height: Count
    """Height of the target, in pixels."""
    width: Count
    """Width of the target, in pixels."""


class Engine(Strict, frozen=True):
    """The engine of one graph."""

    graph: str
    file: File


class EngineSet(Strict, frozen=True, kw_only=True, omit_defaults=False):
    """Contents of `engines.json`."""

    format: Literal["caflow-engines"] = FORMAT
    format_version: Literal[1] = FORMAT_VERSION
    manifest_sha256: str
    flavor: Flavor
    version: str
    """Version of TensorRT that built the engines."""
    compute_capability: str
    """Compute capability of the GPUs that can run the engines, such as "8.6"."""
    gpu: str | None
    """Name of the GPU model that the engines were built for; None if any GPU of the compute capability can run them."""
    precision: PrecisionName
    profiles: list[Profile]
    engines: list[Engine]
    verification: list[Measurement] = msgspec.field(default_factory=list)
    """Measured errors; empty if the engines were built on a machine without such a GPU."""


@dataclass(frozen=True)
class Found:
    """An engine set in a bundle, and the reason if it cannot be used."""

    folder: Path
    engines: EngineSet | None
    """Description of the set; None if `engines.json` cannot be read."""
    stale: str | None
    """Why the engine set cannot be used, or None.

    The check covers the bundle's hash, the lengths of the files and, if TensorRT is installed, its version. It does not
    cover the local GPU.
    """


def folder_name(flavor: Flavor, of_version: str, compute_capability: str, gpu: str | None, precision: str) -> str:
    """Return the name of the folder of an engine set, below `engines/`."""
    name = f"-{re.sub('[^A-Za-z0-9]+', '-', gpu)}" if gpu else ""
    return f"{flavor}-{of_version}-sm{compute_capability.replace('.', '')}{name}-{precision}"


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


def set_for(folder: Path, precision: str, compute_capability: str, gpu: str) -> tuple[Path, EngineSet]:
    """Return the engine set of a bundle that a GPU can run, and its folder.

    If there are several, sets whose TensorRT flavor is installed are preferred, then sets that were built for this GPU
    model.

    Arguments:
        precision: precision of the bundle.
        gpu: name of the GPU.

    Raises:
        BackendError: if no set can be used; the message lists the sets that exist.
    """
    fits: list[tuple[Path, EngineSet]] = []
    others = []
    for found in find(folder):
        if found.engines is None or found.stale:
            others.append(f"{found.folder.name} ({found.stale})")
        elif found.engines.compute_capability != compute_capability:
            others.append(f"{found.folder.name} (for compute capability {found.engines.compute_capability})")
        elif found.engines.gpu not in (None, gpu):
            others.append(f"{found.folder.name} (for {found.engines.gpu})")
        else:
            fits.append((found.folder, found.engines))
    if not fits:
        raise BackendError(
            f"{folder} has no engines for this {gpu} of compute capability {compute_capability}"
            f"{', but it has ' if others else ''}{', '.join(others)}",
            f"caflow-export {folder} --trt {precision}",
        )
    return max(fits, key=lambda one: (installed_version(one[1].flavor) is not None, one[1].gpu is not None))


def write(folder: Path, engines: EngineSet) -> None:
    """Write `engines.json`."""
    (folder / DESCRIPTION).write_bytes(msgspec.json.format(msgspec.json.encode(engines), indent=2) + b"\n")


def installed_version(flavor: Flavor) -> str | None:
    """Return the version of the flavor's Python package, or None if it is not installed."""
    try:
        return version(PACKAGES[flavor])
    except PackageNotFoundError:
        return None


def _stale(bundle_folder: Path, folder: Path, engines: EngineSet) -> str | None:
    """Return why an engine set cannot be used, or None."""
    if engines.manifest_sha256 != sha256_of(bundle_folder / MANIFEST):
        return "built from another export of the model"
    installed = installed_version(engines.flavor)
    if installed is not None and installed != engines.version:
        return f"built with {NAMES[engines.flavor]} {engines.version}, but {installed} is installed"
    for engine in engines.engines:
        path = folder / engine.file.path
        if not path.is_file() or path.stat().st_size != engine.file.bytes:
            return f"{engine.file.path} is missing or truncated"
    return None
