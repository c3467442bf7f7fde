"""Memory that drawing samples takes, estimated before the work; and the refusal of work that does not fit.

The memory of the graphs is measured for each bundle (`memory.json`). `MemoryEstimates.of` adds the arrays outside of
the graphs. `benchmarks/speed.py` compares the sum with real processes. Where an estimate is too low, the pixel budget
is halved when memory runs out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from caflow_runtime.available_memory import available_memory, memory_of_all, readable, resident_memory
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
