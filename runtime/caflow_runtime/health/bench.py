"""`caflow bench`: how long best-of-N takes and how that grows with N, how many images run best together, and where
that is beside what the device can do."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.backends.gpu import used_memory
from caflow_runtime.flow.selftest import smooth_conditions
from caflow_runtime.health.peak import peak_gflop_per_s
from caflow_runtime.image import Image
from caflow_runtime.pipeline.pipeline import Pipeline

WARM_UPS = 3
"""On a GPU the second is recorded, and the third the first that is repeated."""
FEWEST_RUNS = 5
BATCHES = (1, 2, 4, 8, 16, 32, 64)
PER_IMAGE = ("encode",)
PER_ROW = ("decode", "reverse")


@dataclass(frozen=True)
class Timing:
    """Best of N of one image."""

    backend: str
    side: int
    """Of the square result, in pixels."""
    samples: int
    median_s: float
    p95_s: float
    """Quantile 0.95; with few runs the slowest."""
    runs: int
    operations: float
    """Multiplications and additions of one call."""
    times_first: float
    """Median / median of the first N that was measured."""
    counted_times_first: float
    """The same of the operations."""

    @property
    def images_per_s(self) -> float:
        """Results per second."""
        return 1 / self.median_s

    @property
    def samples_per_s(self) -> float:
        """Samples drawn, with their likelihoods, per second."""
        return self.samples / self.median_s

    @property
    def gflop_per_s(self) -> float:
        """10⁹ operations per second."""
        return self.operations / self.median_s / 1e9


@dataclass(frozen=True)
class Throughput:
    """Single samples of so many images at once as give the most images per second."""

    backend: str
    batch: int
    images_per_s: float
    gflop_per_s: float
    peak_gflop_per_s: float
    """Of products of matrices, measured on the same backend."""
    gpu_memory: int | None
    """Bytes in use since before the pipeline was opened; None on the CPU."""

    @property
    def fraction_of_peak(self) -> float:
        """0…1; half floats may run with more than what products were measured with."""
        return self.gflop_per_s / self.peak_gflop_per_s


def bench(pipe: Pipeline, side: int, samples: Sequence[int], seconds: float) -> Iterator[Timing]:
    """Time best-of-N of one result of about `side` × `side` for each N, about `seconds` each."""
    (condition,) = _conditions(pipe, side, 1)
    first: tuple[float, float] | None = None
    for n in samples:
        times = _times(partial(pipe.best_of, condition, n=n), seconds)
        median, counted = statistics.median(times), operations(pipe, condition, n)
        first = first or (median, counted)
        ratios = median / first[0], counted / first[1]
        p95 = float(np.quantile(times, 0.95, method="higher"))
        result_side = pipe.manifest.model.scale * len(condition)
        yield Timing(pipe.backend, result_side, n, median, p95, len(times), counted, *ratios)


def throughput(pipe: Pipeline, side: int, seconds: float, memory_before: int | None) -> Throughput:
    """Try batches of images, each twice as large as the last one, while that makes images faster.

    Arguments:
        memory_before: `gpu.used_memory` before the pipeline was opened; None on the CPU.
    """
    best, per_image = (0, 0.0), operations(pipe, _conditions(pipe, side, 1)[0], 1)
    for batch in BATCHES:
        conditions = _conditions(pipe, side, batch)
        speed = batch / statistics.median(_times(partial(pipe.best_of, conditions, n=1), seconds))
        if speed <= best[1]:
            break
        best = batch, speed
    memory = None if memory_before is None else (used_memory() or 0) - memory_before
    peak = peak_gflop_per_s(pipe.graphs.backend, pipe.manifest.precision)
    return Throughput(pipe.backend, *best, best[1] * per_image / 1e9, peak, memory)


def _conditions(pipe: Pipeline, side: int, count: int) -> NDArray[np.uint8]:
    return smooth_conditions(count, *[-(-side // pipe.manifest.model.scale)] * 2)


def _times(run: Callable[[], object], seconds: float) -> list[float]:
    for _ in range(WARM_UPS):
        run()
    times: list[float] = []
    while len(times) < FEWEST_RUNS or sum(times) < seconds:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return times


def operations(pipe: Pipeline, condition: Image, samples: int) -> float:
    """What the graphs do for `samples` samples of one image, its padding and the overlaps of its tiles included."""
    pixels = sum(height * width for height, width in pipe.tiles(condition))
    per_pixel = 0.0
    for graph in pipe.manifest.graphs:
        if graph.name.startswith(PER_IMAGE):
            per_pixel += graph.operations_per_pixel
        elif graph.name.startswith(PER_ROW):
            per_pixel += samples * graph.operations_per_pixel
    return per_pixel * pixels
