"""Memory and time that drawing samples takes, estimated before the work; and the refusal of work that does not fit.

The memory of the graphs is measured for each bundle (`memory.json`). `MemoryEstimates.of` adds the arrays outside of
the graphs. `benchmarks/speed.py` compares the sum with real processes. Where an estimate is too low, the pixel budget
is halved when memory runs out.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from typing import NamedTuple

import numpy as np

from caflow_runtime.available_memory import available_memory, memory_of_all, readable, resident_memory
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.batching.runner import Runner
from caflow_runtime.bundle.run_memory import UNMEASURED, bytes_of_maps, read_memory
from caflow_runtime.errors import TooLittleMemory

RGB, FLOATS = 3, 12
"""Bytes of an RGB pixel with 8 bits, and as float32."""
LIBRARY_PAGES = 8_000_000
"""Bytes of libraries that Linux loads when they are first used, such as decoders and encoders of image files."""
SPARE = 1.12
"""Factor on all memory: freed memory is fragmented, so not all of it can be used again, and small arrays do not count.
"""
TRIAL_PIXELS, MAX_TRIAL_SAMPLES = 2**16, 4
"""Number of target pixels of a trial, of all its samples together, and maximum number of these samples. Larger trials
measure nearly the same speed."""
TRIAL_SECONDS = 0.1
"""Least time of a trial. A fast one is repeated, because other work on the machine may delay a single run."""
MINUTE, HOUR = 60, 3600
MIN_WORK = 10
"""Least work that is worth a trial, as a multiple of the trial's work. On most machines it takes a few seconds."""


@dataclass(frozen=True)
class Buffers:
    """Arrays outside of the graphs."""

    kept: int
    """Number of finished samples that are kept."""
    picture: float
    """Bytes per target pixel of a finished sample, without its maps."""
    work: float = 0.0
    """Bytes per target pixel of the largest step after drawing, such as encoding a file."""
    others: float = 0.0
    """All other bytes, such as those of the source."""


class MemoryEstimates:
    """Estimates of the host memory that a pipeline takes, without that of a GPU."""

    def __init__(self, runner: Runner) -> None:
        """Record how much memory the process uses before the graphs are loaded. Their backend must be imported."""
        self.runner = runner
        self.before = (resident_memory() or 0) + LIBRARY_PAGES
        """Memory of the process besides its work, in bytes. What it used when the bundle was opened is 0 if unknown."""

    @cached_property
    def _memory(self) -> tuple[float, float, float, float]:
        """Bytes of the graphs and of the smallest run, and per target pixel: of a window, of an item, of scoring."""
        found = read_memory(self.runner.graphs.folder, self.runner.backend.name) or UNMEASURED
        sample, score = found.sample, found.score
        constant = sample.constant + score.constant
        return constant, sample.per_window_pixel, sample.per_item_pixel, score.per_window_pixel

    def of(
        self, targets: Sequence[tuple[int, int]], samples: int, buffers: Buffers, images: int = 1, scored: bool = False
    ) -> int:
        """Return the estimated peak memory of the process for drawing samples of targets, in bytes.

        Arguments:
            targets: height and width of the target of each pass, in pixels, the largest one last. Without a pass of
                the model, only `buffers.others` counts.
            samples: number of samples of each target.
            images: number of images that are drawn together.
            scored: whether a result of the last pass is scored, too.

        Raises:
            InputError: if a target cannot be cut into tiles.
        """
        if not targets:
            return round(self.before + SPARE * buffers.others)
        loads = [self.runner.load_of(*target, samples, images) for target in targets]
        canvases, pixels = loads[-1].canvases, targets[-1][0] * targets[-1][1]
        constant, per_window, per_item, per_scored = self._memory
        run = max((load.units * per_window + load.items * per_item) * load.window_pixels for load in loads)
        if scored:
            run = max(run, per_scored * loads[-1].window_pixels)
        # An unfinished sample keeps its maps when it is finished.
        with_maps = max(buffers.kept, min(buffers.kept + canvases, samples * images))
        kept = (buffers.kept * buffers.picture + with_maps * bytes_of_maps(self.runner.model)) * pixels
        added = max(canvases * FLOATS, buffers.work) * pixels
        return round(self.before + SPARE * (constant + run + kept + added + buffers.others))


def check_memory(peaks: Iterable[int], processes: int = 1, remedy: str = "use a smaller image") -> None:
    """Check that the memory suffices: for this process to grow, or for several processes in addition to this one.

    On systems where memory is unknown, nothing is checked.

    Arguments:
        peaks: peak bytes of a process for each piece of work. The largest pieces may run at the same time.
        processes: number of processes; 1 is this process.
        remedy: advice for the error of one process, such as "use a smaller image".

    Raises:
        TooLittleMemory
    """
    largest = sorted(peaks, reverse=True)[:processes]
    available = available_memory() if processes == 1 else memory_of_all()
    wanted = sum(largest) - (resident_memory() or 0) * (processes == 1)
    if available is None or wanted <= available.bytes:
        return
    if processes > 1:
        fitting = max(1, sum(sum(largest[: k + 1]) <= available.bytes for k in range(len(largest))))
        remedy = f"use --workers {fitting}"
    raise TooLittleMemory(
        f"{readable(wanted)} of memory required, {readable(available.bytes)} available (according to "
        f"{available.limited_by})",
        remedy,
    )


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


def duration(seconds: float) -> str:
    """Return a duration as text, with a precision that suits an estimate."""
    if seconds < 2 * MINUTE:
        return f"{max(1, round(seconds))} s"
    if seconds < 2 * HOUR:
        return f"{round(seconds / MINUTE)} min"
    return f"{seconds / HOUR:.1f} h"
