"""`caflow bench`: how long best-of-N takes, and how that grows with N against what the operations say."""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from caflow_runtime.bundle import Manifest
from caflow_runtime.doctor import smooth_conditions
from caflow_runtime.pipeline import Pipeline

WARM_UPS = 2
FEWEST_RUNS = 5
PER_IMAGE = ("encode",)
PER_ROW = ("decode", "reverse", "to_image")


@dataclass(frozen=True)
class Timing:
    """Best of N of one image."""

    backend: str
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
    """Time best-of-N of one `side` × `side` result for each N, about `seconds` each."""
    manifest = pipe.manifest
    (condition,) = smooth_conditions(1, *[-(-side // manifest.model.scale)] * 2)
    first: tuple[float, float] | None = None
    for n in samples:
        for _ in range(WARM_UPS):
            pipe.best_of(condition, n=n)
        times: list[float] = []
        while len(times) < FEWEST_RUNS or sum(times) < seconds:
            started = time.perf_counter()
            pipe.best_of(condition, n=n)
            times.append(time.perf_counter() - started)
        median, counted = statistics.median(times), operations(manifest, side, n)
        first = first or (median, counted)
        yield Timing(
            pipe.backend,
            n,
            median,
            max(times),
            len(times),
            counted,
            median / first[0],
            counted / first[1] if counted else 0,
        )


def operations(manifest: Manifest, side: int, samples: int) -> float:
    """What the graphs do for `samples` samples of one image of a padded `side` × `side`."""
    multiple = manifest.model.size_multiple
    pixels = (-(-side // multiple) * multiple) ** 2
    per_pixel = 0.0
    for graph in manifest.graphs:
        if graph.name.startswith(PER_IMAGE):
            per_pixel += graph.operations_per_pixel
        elif graph.name.startswith(PER_ROW):
            per_pixel += samples * graph.operations_per_pixel
    return per_pixel * pixels
