"""Memory that drawing samples takes, estimated before the work; and the refusal of work that does not fit.

The memory of the graphs is measured for each bundle (`memory.json`). `MemoryEstimates.of` adds the arrays outside of
the graphs. `benchmarks/speed.py memory` compares the sum with real processes. Where an estimate is too low, the pixel
budget is halved when memory runs out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from caflow_runtime.available_memory import Available, available_memory, memory_of_all, readable, resident_memory
from caflow_runtime.batching.runner import Runner
from caflow_runtime.bundle.run_memory import Memory, bytes_of_maps, read_memory
from caflow_runtime.errors import CaflowError

Scoring = Literal["before writing", "after writing"]
"""When a result is scored, in relation to the writing of its file."""
RGB, FLOATS = 3, 12
"""Bytes of an RGB pixel with 8 bits, and as float32."""
READ_BYTES = 6
"""Bytes per pixel of a written file that is read again to be scored: its pixels, and a padded copy."""
LIBRARY_PAGES = 8_000_000
"""Bytes of libraries that Linux loads when they are first used, such as decoders and encoders of image files."""
SPARE = 1.12
"""Factor on all memory: freed memory is fragmented, so not all of it can be used again, and small arrays do not count.
"""


class TooLittleMemory(CaflowError, MemoryError):
    """More memory is required than is available. Raised before anything is drawn."""


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


@dataclass(frozen=True)
class MemoryEstimate:
    """Estimated memory of a process."""

    bytes: int
    """Peak memory, in bytes. Memory used before the bundle was opened is missing where it is unknown."""
    run_bytes: float
    """Part of `bytes` that a smaller pixel budget reduces: the memory of the largest run."""
    is_measured: bool
    """Whether the memory of runs was measured for this bundle. If not, `bytes` does not include it."""


class MemoryEstimates:
    """Estimates of the host memory that a pipeline takes, without that of a GPU."""

    def __init__(self, runner: Runner) -> None:
        """Record how much memory the process uses before the graphs are loaded. Their backend must be imported."""
        self.runner = runner
        self.before = (resident_memory() or 0) + LIBRARY_PAGES
        """Memory of the process besides its work, in bytes. What it used when the bundle was opened is 0 if unknown."""
        self.map_bytes = bytes_of_maps(runner.model)
        """Memory of the maps of one item, in bytes per target pixel."""

    @cached_property
    def _memory(self) -> Memory | None:
        return read_memory(self.runner.graphs.folder, self.runner.backend.name)

    def of(
        self,
        targets: Sequence[tuple[int, int]],
        samples: int,
        buffers: Buffers,
        images: int = 1,
        scored: Scoring | None = None,
    ) -> MemoryEstimate:
        """Estimate the peak memory for drawing samples of targets.

        Arguments:
            targets: height and width of the target of each pass, in pixels, the largest one last. Without a pass of
                the model, only `buffers.others` counts.
            samples: number of samples of each target.
            images: number of images that are drawn together.
            scored: when a result of the last pass is scored; None if it is not scored.

        Raises:
            InputError: if a target cannot be cut into tiles.
        """
        if not targets:
            return MemoryEstimate(round(self.before + SPARE * buffers.others), 0.0, is_measured=True)
        loads = [self.runner.load_of(*target, samples, images) for target in targets]
        last, pixels = loads[-1], targets[-1][0] * targets[-1][1]
        unfinished = last.canvases * FLOATS * pixels
        # An unfinished sample keeps its maps when it is finished.
        with_maps = max(buffers.kept, min(buffers.kept + last.canvases, samples * images))
        finished = (buffers.kept * buffers.picture + with_maps * self.map_bytes) * pixels
        kept, added = finished + buffers.others, max(unfinished, buffers.work * pixels)
        if (memory := self._memory) is None:
            return MemoryEstimate(round(self.before + SPARE * (kept + added)), 0.0, is_measured=False)
        run = max(memory.sample.of(load.units, load.items, load.window_pixels) for load in loads)
        kept, scoring = kept + memory.sample.constant, 0.0
        if scored:
            kept, scoring = kept + memory.score.constant, memory.score.of(1, 1, last.window_pixels)
        if scored == "before writing":
            run = max(run, scoring)  # memory of runs is not freed until the process ends
        peak = max(run + added, scoring + READ_BYTES * pixels)
        return MemoryEstimate(round(self.before + SPARE * (kept + peak)), SPARE * max(run, scoring), is_measured=True)


def check_available(peak: int, remedy: str) -> None:
    """Check that this process can grow to `peak` bytes. On systems where memory is unknown, nothing is checked.

    Arguments:
        remedy: advice for the error, such as "use a smaller image".

    Raises:
        TooLittleMemory
    """
    available, now = available_memory(), resident_memory()
    if available is not None and now is not None and peak - now > available.bytes:
        raise TooLittleMemory(_why(peak - now, available), remedy)


def check_together(peaks: Iterable[int], processes: int) -> None:
    """Check that several processes fit into memory together, in addition to this one.

    A single process is not checked.

    Arguments:
        peaks: peak bytes of a process for each piece of work. The largest pieces may run at the same time.
        processes: number of processes.

    Raises:
        TooLittleMemory
    """
    available = memory_of_all()
    largest = sorted(peaks, reverse=True)[:processes]
    if available is None or sum(largest) <= available.bytes or len(largest) == 1:
        return
    fitting = max(1, sum(sum(largest[: k + 1]) <= available.bytes for k in range(len(largest))))
    raise TooLittleMemory(_why(sum(largest), available), f"use --workers {fitting}")


def _why(wanted: int, available: Available) -> str:
    return (
        f"{readable(wanted)} of memory required, {readable(available.bytes)} available (according to "
        f"{available.limited_by})"
    )
