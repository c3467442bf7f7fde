"""Memory that runs of a bundle's graphs require: `memory.json`, which the exporter measures.

Like the calibration, this file is not part of the manifest. Bundles without it, and programs that do not know it, work
as before, and it can be added to a bundle at any time.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest import Model, Strict, cell_side
from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.file_io.atomic_files import write_atomically
from caflow_runtime.file_io.strict_json import WrongJson, read_json

NAME = "memory.json"
FORMAT: Literal["caflow-memory"] = "caflow-memory"
FORMAT_VERSION: Literal[1] = 1

Bytes = Annotated[float, msgspec.Meta(ge=0, le=2**40)]


class RunMemory(Strict, frozen=True):
    """Additional memory of a process, relative to its memory after the bundle was opened and before the first run."""

    constant: Bytes
    """Bytes of the loaded graphs and of the smallest run. For scoring, only what is needed in addition to sampling."""
    per_window_pixel: Bytes
    """Bytes per target pixel of all windows in one run."""
    per_item_pixel: Bytes
    """Bytes per target pixel of all items in one run. Each sample of a window is one item, with as many pixels as the
    window."""


class Memory(Strict, frozen=True):
    """Contents of `memory.json`."""

    format: Literal["caflow-memory"]
    format_version: Literal[1]
    manifest_sha256: str
    """SHA-256 of the manifest of the measured bundle."""
    backend: str
    """Name of the measured backend; the figures are not valid for other backends."""
    sample: RunMemory
    score: RunMemory


UNMEASURED = Memory(FORMAT, FORMAT_VERSION, "", "", RunMemory(80e6, 150.0, 320.0), RunMemory(20e6, 500.0, 0.0))
"""Figures for a bundle or a backend that was not measured: those of the built-in models, rounded up."""


def read_memory(folder: Path, backend: str) -> Memory | None:
    """Return the measured memory of a bundle on a backend, or None if it is not known.

    An invalid file also gives None, because the figures are used only for estimates.

    Arguments:
        backend: name of the backend, such as "onnxruntime cpu".
    """
    try:
        found = read_json(folder / NAME, Memory)
    except (OSError, WrongJson):
        return None
    is_of_bundle = found.manifest_sha256 == sha256_of(folder / MANIFEST)
    return found if is_of_bundle and found.backend == backend else None


def write_memory(folder: Path, backend: str, sample: RunMemory, score: RunMemory) -> None:
    """Write `memory.json` into a bundle, completely or not at all.

    Raises:
        OSError: if a file cannot be read or written.
    """
    memory = Memory(FORMAT, FORMAT_VERSION, sha256_of(folder / MANIFEST), backend, sample, score)
    write_atomically(folder / NAME, msgspec.json.format(msgspec.json.encode(memory), indent=2) + b"\n")


def bytes_of_maps(model: Model) -> float:
    """Return the bytes per target pixel of one item's maps in double precision: two maps for each level."""
    names = [f"{name}_{j}" for name in ("decode", "reverse") for j in range(model.levels)]
    return sum(8 / cell_side(model, name) ** 2 for name in names)
