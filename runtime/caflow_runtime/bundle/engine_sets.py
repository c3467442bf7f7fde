"""TensorRT engines of a bundle: sets in its folder `engines/`, each for one flavor, version and GPU.

An engine is a cache that can be built again: one that does not fit is named and never loaded. `engines.json` of a set
carries the hash of the manifest, and with it that of every graph and weight.
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
    """Sizes that an engine takes: from one row of the model's smallest target up to these."""

    rows: Count
    height: Count
    """Of the target, in pixels."""
    width: Count


class Engine(Strict, frozen=True):
    """One graph, built."""

    graph: str
    file: File


class EngineSet(Strict, frozen=True, kw_only=True, omit_defaults=False):
    """`engines.json`."""

    format: Literal["caflow-engines"] = FORMAT
    format_version: Literal[1] = FORMAT_VERSION
    manifest_sha256: str
    flavor: Flavor
    version: str
    """Of TensorRT."""
    compute_capability: str
    """Of the GPUs that can run it, such as "8.6"."""
    gpu: str | None
    """Its name, where it was built for one GPU alone."""
    precision: PrecisionName
    profiles: list[Profile]
    engines: list[Engine]
    verification: list[Measurement] = msgspec.field(default_factory=list)
    """What was measured where they were built; nothing where that was not on such a GPU."""


@dataclass(frozen=True)
class Found:
    """A set in a bundle, and why it cannot be used."""

    folder: Path
    engines: EngineSet | None
    """None where `engines.json` cannot be read."""
    stale: str | None
    """None: it is of this bundle and, where its flavor is installed, of that version; the GPU here is not asked for."""


def folder_name(flavor: Flavor, of_version: str, compute_capability: str, gpu: str | None, precision: str) -> str:
    """Of a set, below `engines/`."""
    name = f"-{re.sub('[^A-Za-z0-9]+', '-', gpu)}" if gpu else ""
    return f"{flavor}-{of_version}-sm{compute_capability.replace('.', '')}{name}-{precision}"


def find(folder: Path) -> Iterator[Found]:
    """All sets of a bundle, by name. Files are checked for their lengths; whoever loads one checks its hash."""
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
    """The set of a bundle that a GPU runs, and its folder; of several one whose TensorRT is installed, if it can be one
    that was built on that GPU.

    Arguments:
        precision: of the bundle.
        gpu: its name.

    Raises:
        BackendError: with what is there instead.
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
            f"{', but ' if others else ''}{', '.join(others)}",
            f"caflow-export {folder} --trt {precision}",
        )
    return max(fits, key=lambda one: (installed_version(one[1].flavor) is not None, one[1].gpu is not None))


def write(folder: Path, engines: EngineSet) -> None:
    """Write `engines.json`."""
    (folder / DESCRIPTION).write_bytes(msgspec.json.format(msgspec.json.encode(engines), indent=2) + b"\n")


def installed_version(flavor: Flavor) -> str | None:
    """Of the flavor's package."""
    try:
        return version(PACKAGES[flavor])
    except PackageNotFoundError:
        return None


def _stale(bundle_folder: Path, folder: Path, engines: EngineSet) -> str | None:
    if engines.manifest_sha256 != sha256_of(bundle_folder / MANIFEST):
        return "built from another export of the model"
    installed = installed_version(engines.flavor)
    if installed is not None and installed != engines.version:
        return f"built by {NAMES[engines.flavor]} {engines.version}, installed is {installed}"
    for engine in engines.engines:
        path = folder / engine.file.path
        if not path.is_file() or path.stat().st_size != engine.file.bytes:
            return f"{engine.file.path} is missing or cut off"
    return None
