"""Memory that runs of a bundle's graphs take: `memory.json`, which the exporter measures.

It is beside the manifest and not in it, as a calibration is: bundles without it, and programs that do not know it, work
as before, and it can be added to a bundle at any time.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest import Model, Strict, cell_side
from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.strict_json import WrongJson, read_json
from caflow_runtime.whole_files import write_whole

NAME = "memory.json"
FORMAT: Literal["caflow-memory"] = "caflow-memory"
FORMAT_VERSION: Literal[1] = 1

Bytes = Annotated[float, msgspec.Meta(ge=0, le=2**40)]


class RunMemory(Strict, frozen=True):
    """What a process needs beside what it has when the bundle is open, before the first run."""

    constant: Bytes
    """Of graphs that are loaded, and of the smallest run; of scoring, what it needs beside the graphs of sampling."""
    per_window_pixel: Bytes
    """Of the windows that run together, in target pixels."""
    per_row_pixel: Bytes
    """Of the rows of these windows: for each of a window's samples as many as the window has."""

    def of(self, units: int, rows: int, pixels: int) -> float:
        """Bytes of runs of at most so many units and rows, with windows of so many pixels; without the constant."""
        return (units * self.per_window_pixel + rows * self.per_row_pixel) * pixels


class Memory(Strict, frozen=True):
    """`memory.json`."""

    format: Literal["caflow-memory"]
    format_version: Literal[1]
    manifest_sha256: str
    """Of the bundle that was measured."""
    backend: str
    """That was measured: figures are of no other."""
    sample: RunMemory
    score: RunMemory


def read_memory(folder: Path, backend: str) -> Memory | None:
    """What was measured of a bundle on a backend; None where that is not known, as nothing depends on it but an
    estimate.

    Arguments:
        backend: its name, such as "onnxruntime cpu".
    """
    try:
        found = read_json(folder / NAME, Memory)
    except (OSError, WrongJson):
        return None
    is_of_bundle = found.manifest_sha256 == sha256_of(folder / MANIFEST)
    return found if is_of_bundle and found.backend == backend else None


def write_memory(folder: Path, backend: str, sample: RunMemory, score: RunMemory) -> None:
    """Into a bundle, whole or not at all.

    Raises:
        OSError
    """
    memory = Memory(FORMAT, FORMAT_VERSION, sha256_of(folder / MANIFEST), backend, sample, score)
    write_whole(folder / NAME, msgspec.json.format(msgspec.json.encode(memory), indent=2) + b"\n")


def bytes_of_shares(model: Model) -> float:
    """Bytes per target pixel of the shares of one row, in double precision: two maps of each level."""
    names = [f"{name}_{j}" for name in ("decode", "reverse") for j in range(model.levels)]
    return sum(8 / cell_side(model, name) ** 2 for name in names)
