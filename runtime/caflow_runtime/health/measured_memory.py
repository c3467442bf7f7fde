"""Measures the memory that runs of a bundle's graphs take on the CPU, in processes of their own.

The peak of a process never falls, and what a run leaves is used by the next one: so each case has a new process, which
is forked from one that has imported all that is needed, and nothing else.
"""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np

from caflow_runtime.available_memory import peak_memory, resident_memory
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.bundle.run_memory import RunMemory
from caflow_runtime.flow.selftest import smooth_conditions
from caflow_runtime.pipeline.pipeline import PIXEL_BUDGET, load

ROWS = (4, 16)
"""Of a window. What each adds differs, as allocators round up."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""A process that forks must have no other threads."""


class CannotMeasure(RuntimeError):
    """Memory is not known on this system, or a process that measures it failed."""


class Measured(msgspec.Struct, frozen=True):
    """What was measured."""

    sample: RunMemory
    score: RunMemory


def measure_memory(folder: Path) -> Measured:
    """Of sampling and of scoring, with runs of about `PIXEL_BUDGET` pixels: seconds to minutes, as the model is large.

    Raises:
        CannotMeasure
    """
    if resident_memory() is None:
        raise CannotMeasure("the memory of processes is not known on this system")
    line = [sys.executable, "-m", __name__, str(folder.absolute())]
    done = subprocess.run(line, capture_output=True, check=False, env=os.environ | ONE_THREAD)
    if done.returncode:
        raise CannotMeasure(done.stderr.decode(errors="replace").strip())
    return msgspec.json.decode(done.stdout, type=Measured)


def _measured(folder: Path) -> Measured:
    multiple = read_manifest(folder).model.size_multiple
    sides = {rows: max(1, round((PIXEL_BUDGET / rows) ** 0.5 / multiple)) * multiple for rows in (1, *ROWS)}
    smallest, one, *more = (_need(folder, "sample", *case) for case in ((1, multiple), *sides.items()))
    constant, first = _line((multiple**2, smallest), (sides[1] ** 2, one))
    of_rows = [(bytes_ - constant) / sides[rows] ** 2 for rows, bytes_ in zip(ROWS, more, strict=True)]
    per_row = max((of_row - first) / (rows - 1) for rows, of_row in zip(ROWS, of_rows, strict=True))
    per_row = min(max(per_row, 0.0), first)
    score = _line(*((side**2, _need(folder, "score", 1, side)) for side in (multiple, sides[1])))
    return Measured(
        RunMemory(constant, first - per_row, per_row), RunMemory(max(0.0, score[0] - constant), score[1], 0.0)
    )


def _line(smaller: tuple[int, int], larger: tuple[int, int]) -> tuple[float, float]:
    """A constant, and bytes per pixel, through two pairs of pixels and bytes."""
    slope = max(0.0, (larger[1] - smaller[1]) / (larger[0] - smaller[0]))
    return max(0.0, larger[1] - slope * larger[0]), slope


def _need(folder: Path, kind: str, rows: int, side: int) -> int:
    """Bytes that a new process needs for so many rows of a window, beside an open bundle."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(_need_here, (folder, kind, rows, side))


def _need_here(folder: Path, kind: str, rows: int, side: int) -> int:
    with load(folder, "cpu", threads=1, pixel_budget=rows * side**2) as pipe:
        scale, multiple, before = pipe.manifest.model.scale, pipe.manifest.model.size_multiple, resident_memory()
        (condition,) = smooth_conditions(1, side // scale, side // scale)
        if kind == "sample":
            pipe.best_of(condition, rows)
        else:
            pipe.best_of(condition[: multiple // scale, : multiple // scale], 1)
            pipe.score(np.kron(condition, np.ones((scale, scale, 1), np.uint8)), condition)
    peak = peak_memory()
    assert peak is not None
    assert before is not None
    return max(0, peak - before)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_measured(Path(sys.argv[1]))))
