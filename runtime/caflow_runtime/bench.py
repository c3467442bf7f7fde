"""`caflow bench`: how long best-of-N takes, and how that grows with N against what the operations say."""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from caflow_runtime.canary import smooth_conditions
from caflow_runtime.inputs import Image
from caflow_runtime.pipeline import Pipeline

WARM_UPS = 2
FEWEST_RUNS = 5
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
    slowest_s: float
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


def bench(pipe: Pipeline, side: int, samples: Sequence[int], seconds: float) -> Iterator[Timing]:
    """Time best-of-N of one result of about `side` × `side` for each N, about `seconds` each."""
    scale = pipe.manifest.model.scale
    (condition,) = smooth_conditions(1, *[-(-side // scale)] * 2)
    first: tuple[float, float] | None = None
    for n in samples:
        for _ in range(WARM_UPS):
            pipe.best_of(condition, n=n)
        times: list[float] = []
        while len(times) < FEWEST_RUNS or sum(times) < seconds:
            started = time.perf_counter()
            pipe.best_of(condition, n=n)
            times.append(time.perf_counter() - started)
        median, counted = statistics.median(times), operations(pipe, condition, n)
        first = first or (median, counted)
        ratios = median / first[0], counted / first[1]
        yield Timing(pipe.backend, scale * len(condition), n, median, max(times), len(times), counted, *ratios)


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
