"""Work that drawing or scoring takes, in pixels of all windows, and the time that this machine takes for it."""

import time
from functools import cached_property
from math import isqrt
from typing import NamedTuple

import numpy as np

from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.batching.runner import Runner

TRIAL_PIXELS, MAX_TRIAL_SAMPLES = 2**16, 4
"""Number of target pixels of a trial, of all its samples together, and maximum number of these samples. Larger trials
measure nearly the same speed."""
TRIAL_SECONDS = 0.1
"""Least time of a trial. A fast one is repeated, because other work on the machine may delay a single run."""
MIN_WORK = 10
"""Least work that is worth a trial, as a multiple of the trial's work. On most machines it takes a few seconds."""


class Stage(NamedTuple):
    """Windows that run one after the other: those of all samples of one target, or of a target that is scored."""

    windows: int
    """Number of windows of all samples, as `ShowWindows` counts them."""
    window_pixels: int
    """Number of target pixels of a window."""

    @property
    def work(self) -> int:
        """Target pixels of all windows. A scored pixel takes about as long as a drawn one."""
        return self.windows * self.window_pixels


def stage_of(runner: Runner, height: int, width: int, samples: int = 1) -> Stage:
    """Return the windows of drawing samples of a target of this size, in pixels, or of scoring it.

    Raises:
        InputError: if the target cannot be cut into tiles.
    """
    load = runner.load_of(height, width, samples)
    return Stage(load.windows * samples, load.window_pixels)


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
            samples: number of samples of each image. They share the encoding of their condition.
        """
        self.runner, self.samples = runner, min(samples, MAX_TRIAL_SAMPLES)
        multiple, limits = runner.model.size_multiple, runner.limits()
        side = isqrt(min(TRIAL_PIXELS, limits.pixels) // self.samples)
        self.side = max(multiple, min(side, *(limits.largest_sides or [side])) // multiple * multiple)
        self.work = self.samples * self.side**2
        """Target pixels of all samples of the trial."""

    def is_short_for(self, work: int) -> bool:
        """Return whether the trial takes little time compared with this number of target pixels."""
        return work >= MIN_WORK * self.work

    def seconds(self, work: int) -> float:
        """Return the estimated time for this number of target pixels, in seconds."""
        return work / self._speed

    @cached_property
    def _speed(self) -> float:
        """Target pixels per second. The first run is not measured: it loads graphs and allocates memory."""
        self._run()
        began, runs = time.perf_counter(), 0
        while (seconds := time.perf_counter() - began) < TRIAL_SECONDS:
            self._run()
            runs += 1
        return runs * self.work / seconds

    def _run(self) -> None:
        model = self.runner.model
        small = self.side // model.scale
        dark = np.zeros((small, small, model.condition_channels), np.uint8)  # a mask of 0: everything is drawn
        list(self.runner.draw([dark], range(self.samples), DrawOptions(self.samples)))
