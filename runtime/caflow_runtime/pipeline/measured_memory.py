"""Measurement of the memory that runs of a bundle's graphs need on the CPU.

Each case is measured in a new process, because the peak memory of a process never falls, and a run reuses memory that
an earlier run freed. The new process is forked from one that has imported all required modules and done nothing else.
"""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np

from caflow_runtime.available_memory import peak_memory, resident_memory
from caflow_runtime.bundle.known_values import VALUES
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.bundle.run_memory import RunMemory
from caflow_runtime.flow.selftest import conditions_for
from caflow_runtime.flow.tiles import Tiling
from caflow_runtime.pipeline.pipeline import load

ITEMS = (4, 16)
"""Numbers of items of a window that are measured. Memory per item differs between them, since allocators round up."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Environment variables that keep the forking process without other threads."""


class CannotMeasure(RuntimeError):
    """Memory cannot be measured: the system does not report it, or the measuring process failed."""


class Measured(msgspec.Struct, frozen=True):
    """Measured memory of sampling and of scoring."""

    sample: RunMemory
    score: RunMemory


def measure_memory(folder: Path) -> Measured:
    """Measure the memory of sampling and of scoring, with runs of about `Tiling.pixel_budget` pixels.

    This takes seconds to minutes, depending on the size of the model.

    Raises:
        CannotMeasure
    """
    if resident_memory() is None:
        raise CannotMeasure("this system does not report the memory of processes; measure on Linux")
    line = [sys.executable, "-m", __name__, str(folder.absolute())]
    done = subprocess.run(line, capture_output=True, check=False, env=os.environ | ONE_THREAD)
    if done.returncode:
        raise CannotMeasure(done.stderr.decode(errors="replace").strip())
    return msgspec.json.decode(done.stdout, type=Measured)


def _measured(folder: Path) -> Measured:
    multiple = read_manifest(folder).model.size_multiple
    sides = {
        items: max(1, round((Tiling().pixel_budget / items) ** 0.5 / multiple)) * multiple for items in (1, *ITEMS)
    }
    smallest, one, *more = (_need(folder, "sample", *case) for case in ((1, multiple), *sides.items()))
    constant, first = _line((multiple**2, smallest), (sides[1] ** 2, one))
    of_items = [(bytes_ - constant) / sides[items] ** 2 for items, bytes_ in zip(ITEMS, more, strict=True)]
    per_item = max((of_item - first) / (items - 1) for items, of_item in zip(ITEMS, of_items, strict=True))
    per_item = min(max(per_item, 0.0), first)
    score = _line(*((side**2, _need(folder, "score", 1, side)) for side in (multiple, sides[1])))
    return Measured(
        RunMemory(constant, first - per_item, per_item), RunMemory(max(0.0, score[0] - constant), score[1], 0.0)
    )


def _line(smaller: tuple[int, int], larger: tuple[int, int]) -> tuple[float, float]:
    """Return the constant bytes, and the bytes per pixel, of the line through two points (pixels, bytes)."""
    slope = max(0.0, (larger[1] - smaller[1]) / (larger[0] - smaller[0]))
    return max(0.0, larger[1] - slope * larger[0]), slope


def _need(folder: Path, kind: str, items: int, side: int) -> int:
    """Return the bytes that a new process needs for `items` items of a window, in addition to the open bundle.

    Arguments:
        kind: "sample" or "score".
        side: side of the square window, in target pixels.
    """
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(_need_here, (folder, kind, items, side))


def _need_here(folder: Path, kind: str, items: int, side: int) -> int:
    with load(folder, "cpu", threads=1, tiling=Tiling(items * side**2)) as pipe:
        model, before = pipe.manifest.model, resident_memory()
        scale, multiple = model.scale, model.size_multiple
        (condition,) = conditions_for(model, 1, side // scale, side // scale)
        if kind == "sample":
            pipe.best_of(condition, n=items)
        else:
            pipe.best_of(condition[: multiple // scale, : multiple // scale], n=1)
            pipe.score(np.kron(condition[..., :VALUES], np.ones((scale, scale, 1), np.uint8)), condition)
    peak = peak_memory()
    assert peak is not None
    assert before is not None
    return max(0, peak - before)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_measured(Path(sys.argv[1]))))
