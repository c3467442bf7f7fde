"""Estimates of the computation, the memory and the time that drawing or scoring images takes."""

import time
from dataclasses import dataclass
from functools import cached_property
from math import isqrt

import numpy as np

from caflow_runtime.available_memory import resident_memory
from caflow_runtime.bundle.manifest import PER_IMAGE
from caflow_runtime.bundle.run_memory import Memory, bytes_of_shares, read_memory
from caflow_runtime.rows.draw import Draw
from caflow_runtime.rows.runner import Runner

CANVAS_BYTES = 12
"""Bytes per pixel of a tiled image that is not finished."""
TILE_BYTES = 40
"""Bytes per pixel of a window of such an image, as measured: for its weighted pixels and its noise."""
NOISE_BYTES = 12
"""Bytes of a sample's noise per pixel of its windows: three channels in float32."""
TRIAL_PIXELS, MAX_TRIAL_SAMPLES = 2**16, 4
"""Number of target pixels of a trial, of all its samples together, and maximum number of these samples. Larger trials
measure nearly the same speed."""
TRIAL_SECONDS = 0.1
"""Least time of a trial. A fast one is repeated, because other work on the machine may delay a single run."""
MIN_WORK = 10
"""Least work that is worth a trial, as a multiple of the trial's work. On most machines it takes a few seconds."""
SPARE = 1.1
"""Factor on the memory of runs: freed memory is fragmented, so not all of it can be used again."""


@dataclass(frozen=True)
class Stage:
    """Windows that run one after the other: those of all samples of one target, or of an existing target."""

    windows: int
    """Number of windows of all samples, as `ShowWindows` counts them."""
    samples_per_encoding: int
    """Number of samples that share one encoding of a condition's window."""
    encoding: float
    """Multiplications and additions for encoding the condition of one window."""
    row: float
    """Multiplications and additions for one window of one sample."""

    def operations(self, done: int) -> float:
        """Return the number of multiplications and additions for the first `done` windows."""
        return -(-done // self.samples_per_encoding) * self.encoding + done * self.row


@dataclass(frozen=True)
class Need:
    """Computation and memory for drawing or scoring all samples of one target."""

    stage: Stage
    run_bytes: float | None
    """Memory of the largest run, in bytes; None if it was not measured."""
    canvas_bytes: float
    """Memory of samples that are not finished, in bytes."""


class Needs:
    """Estimates of the computation and the host memory that a pipeline takes.

    Graphs on a GPU use the GPU's memory, which is not included.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.manifest = runner.graphs.manifest
        self.folder, self.backend = runner.graphs.folder, runner.backend.name
        self.before = resident_memory()
        """Memory of the process when the bundle was opened, in bytes; None if it is unknown."""
        self.share_bytes = bytes_of_shares(self.manifest.model)
        """Memory of the shares of one row, in bytes per target pixel."""
        self._trials: dict[int, SpeedTrial] = {}

    @cached_property
    def memory(self) -> Memory | None:
        """Measured memory of this bundle on this backend; None if it was not measured."""
        return read_memory(self.folder, self.backend)

    def drawing(self, height: int, width: int, samples: int, images: int = 1) -> Need:
        """Return the need for drawing samples of targets of this size, in pixels. The stage is that of one target.

        Arguments:
            samples: number of samples of each target.
            images: number of targets that are drawn together.

        Raises:
            InputError: if a target cannot be cut into tiles.
        """
        load, memory = self.runner.load_of(height, width, samples, images), self.memory
        together = -(-samples // load.encodings)
        stage = Stage(load.windows * samples, together, *self.operations(load.window_pixels, "decode", "reverse"))
        run = None if memory is None else SPARE * memory.sample.of(load.units, load.rows, load.window_pixels)
        canvases = load.canvases * (CANVAS_BYTES + self.share_bytes) * height * width
        return Need(stage, run, canvases + bool(load.canvases) * TILE_BYTES * load.window_pixels)

    def scoring(self, height: int, width: int) -> Need:
        """Return the need for scoring an existing target of this size, in pixels.

        Raises:
            InputError: if the target cannot be cut into tiles.
        """
        load, memory = self.runner.load_of(height, width, 1), self.memory
        stage = Stage(load.windows, 1, *self.operations(load.window_pixels, "forward", "likelihood"))
        run = None if memory is None else SPARE * memory.score.of(load.units, load.rows, load.window_pixels)
        return Need(stage, run, self.share_bytes * height * width)

    def trial(self, samples: int) -> "SpeedTrial":
        """Return the trial that estimates times for this number of samples of each image. It runs at most once."""
        return self._trials.setdefault(samples, SpeedTrial(self, samples))

    def noise_bytes(self, height: int, width: int) -> int:
        """Return the memory of one sample's noise for all windows of a target of this size, in pixels.

        Raises:
            InputError: if the target cannot be cut into tiles.
        """
        load = self.runner.load_of(height, width, 1)
        return NOISE_BYTES * load.windows * load.window_pixels

    def graph_bytes(self, scores: bool) -> float | None:
        """Return the memory of the loaded graphs, in bytes; None if it was not measured.

        Arguments:
            scores: whether to include the graphs for scoring.
        """
        memory = self.memory
        if memory is None:
            return None
        return SPARE * (memory.sample.constant + (memory.score.constant if scores else 0.0))

    def operations(self, pixels: int, *of_row: str) -> tuple[float, float]:
        """Return the multiplications and additions for a window's condition, and for one of the window's rows.

        Arguments:
            pixels: number of target pixels of the window.
            of_row: names of the graphs that run for each row, without the level.
        """
        known = {graph.name: graph.operations_per_pixel * pixels for graph in self.manifest.graphs}
        rows = (count for name, count in known.items() if name.rpartition("_")[0] in of_row)
        return sum(known.get(name, 0.0) for name in PER_IMAGE), sum(rows)


class SpeedTrial:
    """Short trial that measures how fast this machine draws samples at present. It runs when it is first needed."""

    def __init__(self, needs: Needs, samples: int) -> None:
        """Prepare the trial.

        Arguments:
            samples: number of samples of each image.
        """
        self.runner, self.samples = needs.runner, min(samples, MAX_TRIAL_SAMPLES)
        multiple, room = needs.manifest.model.size_multiple, needs.runner.room()
        side = isqrt(min(TRIAL_PIXELS, room.pixels) // self.samples)
        self.side = max(multiple, min(side, *(room.largest_sides or [side])) // multiple * multiple)
        encoding, row = needs.operations(self.side**2, "decode", "reverse")
        self.operations = encoding + self.samples * row
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
        small = self.side // self.runner.model.scale
        grey = np.full((small, small, 3), 128, np.uint8)
        list(self.runner.draw([grey], range(self.samples), Draw(self.samples)))
