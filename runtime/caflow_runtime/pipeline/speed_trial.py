"""Computation that drawing or scoring takes, and the time that this machine takes for it."""

import time
from dataclasses import dataclass
from functools import cached_property
from math import isqrt

import numpy as np

from caflow_runtime.batching.runner import Runner
from caflow_runtime.batching.sampling_config import SamplingConfig
from caflow_runtime.bundle.manifest import PER_IMAGE, Manifest

TRIAL_PIXELS, MAX_TRIAL_SAMPLES = 2**16, 4
"""Number of target pixels of a trial, of all its samples together, and maximum number of these samples. Larger trials
measure nearly the same speed."""
TRIAL_SECONDS = 0.1
"""Least time of a trial. A fast one is repeated, because other work on the machine may delay a single run."""
MIN_WORK = 10
"""Least work that is worth a trial, as a multiple of the trial's work. On most machines it takes a few seconds."""


@dataclass(frozen=True)
class Stage:
    """Windows that run one after the other: those of all samples of one target, or of an existing target."""

    windows: int
    """Number of windows of all samples, as `ShowWindows` counts them."""
    samples_per_encoding: int
    """Number of samples that share one encoding of a condition's window."""
    encoding: float
    """Multiplications and additions for encoding the condition of one window."""
    item: float
    """Multiplications and additions for one window of one sample."""

    def operations(self, done: int) -> float:
        """Return the number of multiplications and additions for the first `done` windows."""
        return -(-done // self.samples_per_encoding) * self.encoding + done * self.item


def drawing_stage(runner: Runner, height: int, width: int, samples: int) -> Stage:
    """Return the work of drawing samples of a target of this size, in pixels.

    Raises:
        InputError: if the target cannot be cut into tiles.
    """
    load = runner.load_of(height, width, samples)
    operations = _operations(runner.graphs.manifest, load.window_pixels, "decode", "reverse")
    return Stage(load.windows * samples, -(-samples // load.encodings), *operations)


def scoring_stage(runner: Runner, height: int, width: int) -> Stage:
    """Return the work of scoring an existing target of this size, in pixels.

    Raises:
        InputError: if the target cannot be cut into tiles.
    """
    load = runner.load_of(height, width, 1)
    return Stage(load.windows, 1, *_operations(runner.graphs.manifest, load.window_pixels, "forward", "likelihood"))


class SpeedTrials(dict[int, "SpeedTrial"]):
    """Trials of a pipeline by the number of samples of each image. They run at most once."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    def __missing__(self, samples: int) -> "SpeedTrial":
        return self.setdefault(samples, SpeedTrial(self.runner, samples))


class SpeedTrial:
    """Short trial that measures how fast this machine draws samples at present. It runs when it is first needed."""

    def __init__(self, runner: Runner, samples: int) -> None:
        """Prepare the trial.

        Arguments:
            samples: number of samples of each image.
        """
        self.runner, self.samples = runner, min(samples, MAX_TRIAL_SAMPLES)
        multiple, limits = runner.model.size_multiple, runner.limits()
        side = isqrt(min(TRIAL_PIXELS, limits.pixels) // self.samples)
        self.side = max(multiple, min(side, *(limits.largest_sides or [side])) // multiple * multiple)
        encoding, item = _operations(runner.graphs.manifest, self.side**2, "decode", "reverse")
        self.operations = encoding + self.samples * item
        """Multiplications and additions of the trial."""

    def is_short_for(self, operations: float) -> bool:
        """Return whether the trial takes little time compared with this number of multiplications and additions."""
        return operations >= MIN_WORK * self.operations

    def seconds(self, operations: float) -> float:
        """Return the estimated time for this number of multiplications and additions, in seconds."""
        return operations / self._speed

    @cached_property
    def _speed(self) -> float:
        """Operations per second. The first run is not measured: it loads graphs and allocates memory."""
        self._run()
        began, runs = time.perf_counter(), 0
        while (seconds := time.perf_counter() - began) < TRIAL_SECONDS:
            self._run()
            runs += 1
        return runs * self.operations / seconds

    def _run(self) -> None:
        model = self.runner.model
        small = self.side // model.scale
        dark = np.zeros((small, small, model.condition_channels), np.uint8)  # a mask of 0: everything is drawn
        list(self.runner.draw([dark], range(self.samples), SamplingConfig(self.samples)))


def _operations(manifest: Manifest, pixels: int, *of_item: str) -> tuple[float, float]:
    """Return the multiplications and additions for a window's condition, and for one of the window's items.

    Arguments:
        pixels: number of target pixels of the window.
        of_item: names of the graphs that run for each item, without the level.
    """
    known = {graph.name: graph.operations_per_pixel * pixels for graph in manifest.graphs}
    items = (count for name, count in known.items() if name.rpartition("_")[0] in of_item)
    return sum(known.get(name, 0.0) for name in PER_IMAGE), sum(items)
