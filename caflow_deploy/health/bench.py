"""Measurements of `caflow bench`.

`bench` times best-of-N for several N. `throughput` finds the fastest batch size.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.bundle.manifest import PER_IMAGE
from caflow_runtime.flow.selftest import conditions_for
from caflow_runtime.image_arrays import Image
from caflow_runtime.pipeline.pipeline import Pipeline

WARM_UPS = 3
"""Untimed runs before a measurement, which load the graphs and choose kernels."""
MIN_RUNS = 5
BATCHES = (1, 2, 4, 8, 16, 32, 64)
PER_ROW = ("decode", "reverse")


@dataclass(frozen=True)
class Timing:
    """Time of best-of-N for one image."""

    backend: str
    side: int
    """Side of the square result, in pixels."""
    samples: int
    """N: number of samples that were drawn."""
    median_s: float
    """Median time of a call, in seconds."""
    p95_s: float
    """95 % quantile of the time, in seconds; with few runs, the longest time."""
    runs: int
    """Number of timed calls."""
    operations: float
    """Multiplications and additions of one call."""

    @property
    def images_per_s(self) -> float:
        """Results per second."""
        return 1 / self.median_s

    @property
    def samples_per_s(self) -> float:
        """Samples per second, including their likelihoods."""
        return self.samples / self.median_s


@dataclass(frozen=True)
class Throughput:
    """Highest throughput for single samples: the batch size that gives the most images per second."""

    backend: str
    batch: int
    """Number of images in a batch."""
    images_per_s: float
    gpu_memory: int | None
    """GPU memory that all processes use at the end, in bytes; None on the CPU, and without CuPy."""


def bench(pipe: Pipeline, side: int, samples: Sequence[int], seconds: float) -> Iterator[Timing]:
    """Time best-of-N for each N in `samples`.

    Arguments:
        side: side of the square result in pixels; rounded up to a multiple of the model's scale.
        seconds: approximate duration of the timed calls for each N.
    """
    (condition,) = _conditions(pipe, side, 1)
    for n in samples:
        times = _times(partial(pipe.best_of, condition, n=n), seconds)
        p95 = float(np.quantile(times, 0.95, method="higher"))
        result_side, counted = pipe.manifest.model.scale * len(condition), operations(pipe, condition, n)
        yield Timing(pipe.backend, result_side, n, statistics.median(times), p95, len(times), counted)


def throughput(pipe: Pipeline, side: int, seconds: float) -> Throughput:
    """Return the highest throughput. Batch sizes are doubled until the speed does not increase any more.

    Arguments:
        side: side of the square results, as in `bench`.
        seconds: approximate duration of the timed calls for each batch size.
    """
    best = 0, 0.0
    for batch in BATCHES:
        conditions = _conditions(pipe, side, batch)
        speed = batch / statistics.median(_times(partial(pipe.best_of, conditions, n=1), seconds))
        if speed <= best[1]:
            break
        best = batch, speed
    return Throughput(pipe.backend, *best, pipe.runner.backend.used_memory())


def _conditions(pipe: Pipeline, side: int, count: int) -> NDArray[np.uint8]:
    model = pipe.manifest.model
    return conditions_for(model, count, *[-(-side // model.scale)] * 2)


def _times(run: Callable[[], object], seconds: float) -> list[float]:
    for _ in range(WARM_UPS):
        run()
    times: list[float] = []
    while len(times) < MIN_RUNS or sum(times) < seconds:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return times


def operations(pipe: Pipeline, condition: Image, samples: int) -> float:
    """Return the operations of the graphs for samples of one image, including padding and overlaps of tiles."""
    pixels = sum(height * width for height, width in pipe.tiles(condition))
    per_pixel = 0.0
    for graph in pipe.manifest.graphs:
        if graph.name.startswith(PER_IMAGE):
            per_pixel += graph.operations_per_pixel
        elif graph.name.startswith(PER_ROW):
            per_pixel += samples * graph.operations_per_pixel
    return per_pixel * pixels
