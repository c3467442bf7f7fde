"""What it takes to draw or score images: how much is computed, and how much memory that needs."""

from dataclasses import dataclass
from functools import cached_property

from caflow_runtime.available_memory import resident_memory
from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.bundle.run_memory import Memory, bytes_of_shares, read_memory
from caflow_runtime.rows.runner import Runner

CANVAS_BYTES = 12
"""Of a pixel of a tiled image that is not finished."""
TILE_BYTES = 40
"""Of a pixel of a window of such an image: what is added with its weights, and its noise, as measured."""
SPARE = 1.1
"""Of what runs take, as where freed memory lies decides how much of it can be used again."""


@dataclass(frozen=True)
class Stage:
    """Windows that run one after the other: those of all samples of a target, or of targets that are scored."""

    windows: int
    """Of all samples: what `ShowWindows` counts."""
    samples_per_encoding: int
    encoding: float
    """Multiplications and additions of a condition's window."""
    row: float
    """The same of one sample's window."""

    def operations(self, done: int) -> float:
        """Of so many windows, from the first one on."""
        return -(-done // self.samples_per_encoding) * self.encoding + done * self.row


@dataclass(frozen=True)
class Need:
    """Of drawing, or scoring, all samples of one target."""

    stage: Stage
    run_bytes: float | None
    """Of the largest run; None where it was not measured."""
    canvas_bytes: float
    """Of samples that are not finished."""


class Needs:
    """Says what a pipeline needs. Memory is that of the host: on a GPU, runs have the GPU's."""

    def __init__(self, graphs: Graphs, runner: Runner) -> None:
        self.runner = runner
        self.manifest = graphs.manifest
        self.folder, self.backend = graphs.folder, graphs.backend.name
        self.before = resident_memory()
        """Bytes of the process when the bundle was opened; None where that is unknown."""
        self.share_bytes = bytes_of_shares(self.manifest.model)
        """Per target pixel, of a row."""

    @cached_property
    def memory(self) -> Memory | None:
        """What was measured of this bundle on this backend."""
        return read_memory(self.folder, self.backend)

    def drawing(self, height: int, width: int, samples: int, images: int = 1) -> Need:
        """Of samples of targets of that size; the stage is that of one target.

        Raises:
            InputError: if it cannot be cut into tiles.
        """
        load, memory = self.runner.load_of(height, width, samples, images), self.memory
        together = -(-samples // load.encodings)
        stage = Stage(load.windows * samples, together, *self._operations(load.window_pixels, "decode", "reverse"))
        run = None if memory is None else SPARE * memory.sample.of(load.units, load.rows, load.window_pixels)
        canvases = load.canvases * (CANVAS_BYTES + self.share_bytes) * height * width
        return Need(stage, run, canvases + bool(load.canvases) * TILE_BYTES * load.window_pixels)

    def scoring(self, height: int, width: int) -> Need:
        """Of a target of that size that is given.

        Raises:
            InputError: if it cannot be cut into tiles.
        """
        load, memory = self.runner.load_of(height, width, 1), self.memory
        stage = Stage(load.windows, 1, *self._operations(load.window_pixels, "forward", "likelihood"))
        run = None if memory is None else SPARE * memory.score.of(load.units, load.rows, load.window_pixels)
        return Need(stage, run, self.share_bytes * height * width)

    def graph_bytes(self, scores: bool) -> float | None:
        """Of graphs that are loaded for drawing and, if that is wanted, for scoring; None where it was not measured."""
        memory = self.memory
        if memory is None:
            return None
        return SPARE * (memory.sample.constant + (memory.score.constant if scores else 0.0))

    def _operations(self, pixels: int, *of_row: str) -> tuple[float, float]:
        """Of a window of so many pixels: of its condition, and of one of its rows, by the graphs' names."""
        known = {graph.name: graph.operations_per_pixel * pixels for graph in self.manifest.graphs}
        rows = (count for name, count in known.items() if name.rpartition("_")[0] in of_row)
        return known["encode"], sum(rows)
