"""Runs images through the graphs: cuts them into windows, runs these in limited batches, and assembles the results."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.bundle.manifest import cell_side
from caflow_runtime.errors import InputError
from caflow_runtime.flow.batching import Room, RunLoad, Unit, most_unfinished, plan_runs
from caflow_runtime.flow.noise import DrawNoise
from caflow_runtime.flow.tiles import TooSmall, Window, cut
from caflow_runtime.image import Image
from caflow_runtime.rows.assembly import Assembly, Row, RowPart
from caflow_runtime.rows.device_run import GraphChain, padded
from caflow_runtime.rows.draw import Draw
from caflow_runtime.rows.work import Drawing, Scoring, Work

CANVAS_PIXELS = 2**25
"""Largest number of target pixels of tiled images that are unfinished at the same time. Each pixel takes 12 bytes."""

ShowWindows = Callable[[int, int], None]
"""Callback for progress. Its arguments are the number of windows that are finished, and their total number, over all
samples. A window is a whole image, or a tile of a large image."""
LevelNoises = list[NDArray[np.float32]]
"""z of each level, the coarsest first: (R, channels, h, w). The channels contain the blocks z[i, j] for i = j … n−1, in
this order."""


class Runner:
    """Runs rows. Any thread may use it. Only the pixel budget ever changes: it is halved when memory runs out."""

    def __init__(
        self, graphs: Graphs, pixel_budget: int, overlap: int, assume: Mapping[str, float] | None = None
    ) -> None:
        self.graphs = graphs
        self.backend = graphs.backend
        self.model = graphs.manifest.model
        self.chain = GraphChain(graphs, assume)
        self.pixel_budget = pixel_budget
        self.overlap = overlap

    def room(self, budget: int | None = None) -> Room:
        """Return the limits of one run. `budget` is in target pixels; by default, it is the whole pixel budget."""
        return Room(budget or self.pixel_budget, self.backend.profile)

    def windows(self, condition: Image, budget: int | None = None) -> list[Window]:
        """Return the windows of a condition's target.

        Arguments:
            budget: largest size of a window, in target pixels; by default the whole pixel budget.

        Raises:
            InputError: if the windows would be too small for the overlap, or if the image has to be padded or cut and
                the model does not support that.
        """
        scale = self.model.scale
        return self.windows_of(scale * condition.shape[0], scale * condition.shape[1], budget)

    def windows_of(self, height: int, width: int, budget: int | None = None) -> list[Window]:
        """Return the windows of a target of this size in pixels, as `windows` does.

        Raises:
            InputError: as `windows` does.
        """
        model, budget = self.model, budget or self.pixel_budget
        try:
            windows = cut(height, width, model.size_multiple, budget, self.overlap, self.room(budget).largest_sides)
        except TooSmall as error:
            larger = ["a smaller overlap", "a larger pixel_budget"]
            larger += ["engines built with a larger --max-size"] if self.backend.profile else []
            raise InputError(f"{error}: use {' or '.join(larger)}") from None
        whole = len(windows) == 1 and windows[0].shape == (height, width)
        if not whole and model.task_settings.get("mask") == "central":
            raise InputError(
                f"this model fills a hole in the middle, so images cannot be padded or cut: sides must be multiples of "
                f"{model.size_multiple}, and images must have at most {budget} pixels; got {width}×{height}"
            )
        return windows

    def load_of(self, height: int, width: int, samples: int, images: int = 1) -> RunLoad:
        """Return how samples of targets of this size, in pixels, are divided into windows and runs.

        Arguments:
            samples: number of samples of each target.
            images: number of targets.

        Raises:
            InputError: as `windows` does.
        """
        windows = self.windows_of(height, width)
        pixels = prod(windows[0].shape)
        unfinished = most_unfinished(windows, samples, CANVAS_PIXELS)
        rows = min(unfinished, self.room().rows(windows[0]))
        units = min(images * len(windows), self.room().rows(windows[0]) // unfinished) or 1
        canvases = unfinished if len(windows) > 1 else 0
        return RunLoad(len(windows), pixels, units, units * rows, canvases, -(-samples // unfinished))

    def _padded_sides(self, condition: Image) -> tuple[int, int]:
        """Return height and width of a condition's target with its padding, in pixels."""
        multiple = self.model.size_multiple
        height, width = (-(-side * self.model.scale // multiple) * multiple for side in condition.shape[:2])
        return height, width

    def _single_window(self, condition: Image) -> Window:
        """Return the window of an image that is not cut.

        Raises:
            InputError: if the image requires more than one window.
        """
        windows = self.windows(condition)
        if len(windows) > 1:
            height, width = self._padded_sides(condition)
            raise InputError(
                f"the noise belongs to the whole image, so its {width}×{height} pixels must run as one tile: use "
                f"{self.room().remedy(1, height, width)}"
            )
        return windows[0]

    def draw(
        self,
        conditions: Sequence[Image],
        samples: Sequence[int],
        draw: Draw,
        show: ShowWindows | None = None,
        draw_noise: DrawNoise | None = None,
    ) -> Iterator[Row]:
        """Draw samples of all conditions. Yield each row when it is finished.

        Arguments:
            samples: numbers of the samples to draw of each condition.
            draw: settings. With `draw.keep`, dropped samples are not yielded.
            show: receives the progress.
            draw_noise: function that draws the noise of one level; by default the backend's.

        Raises:
            InputError: if `draw.keep` is used and the samples of an image do not all fit into one run.
            MemoryError: if memory runs out even with the smallest tiles.
        """
        return self._run(Drawing(self.chain, conditions, samples, draw, draw_noise), show)

    def score(
        self, targets: Sequence[Image], conditions: Sequence[Image], show: ShowWindows | None = None
    ) -> Iterator[Row]:
        """Compute the likelihoods of existing targets. Yield each row when it is finished.

        Raises:
            MemoryError: if memory runs out even with the smallest tiles.
        """
        return self._run(Scoring(self.chain, targets, conditions), show)

    def encode(self, target: Image, condition: Image) -> tuple[LevelNoises, Row]:
        """Return the noise of a target, an array (1, channels, h, w) for each level, and the row with its likelihood.

        Raises:
            InputError: if the image requires more than one tile.
        """
        unit, model = Unit(0, self._single_window(condition), (0,)), self.model
        rows = self.chain.score([unit], [padded(target, model, 1)], self.chain.prepared([condition]))
        return [self.backend.to_host(z) for z in rows.noise], self._only_row(condition, self.chain.parts([unit], rows))

    def decode(self, noise: LevelNoises, condition: Image) -> Row:
        """Return the row whose pixels this noise produces.

        Raises:
            InputError: if the image requires more than one tile, or the noise has a wrong shape.
        """
        unit = Unit(0, self._single_window(condition), (0,))
        wanted = [
            (1, sum(channels), *(side // cell_side(self.model, f"decode_{j}") for side in unit.window.shape))
            for j, channels in enumerate(self.model.noise_channels)
        ]
        if [z.shape for z in noise] != wanted:
            raise InputError(f"noise: expected arrays of shapes {wanted}; got {[z.shape for z in noise]}")
        encoded = self.chain.encode([unit], self.chain.prepared([condition]))
        device = [self.backend.to_device(z) for z in noise]
        rows = self.chain.sample([unit], encoded, device)
        return self._only_row(condition, self.chain.parts([unit], rows, self.chain.pixels(rows, stay=False)))

    def _only_row(self, condition: Image, parts: Iterable[RowPart]) -> Row:
        """Return the row of a run that has a single row."""
        (part,) = parts
        row = Assembly(self.model, [condition], [[part.window]]).add(part)
        assert row is not None
        return row

    def _run(self, work: Work, show: ShowWindows | None) -> Iterator[Row]:
        """Yield all rows. When memory runs out, halve the budget for the remaining rows and for later calls."""
        given: set[tuple[int, int]] = set()
        whole = budget = self.pixel_budget
        # Halving begins at the pixels of all rows of one size, which may share a batch. More budget has no effect.
        sizes = Counter(self._padded_sides(one) for one in work.conditions)
        most = len(work.samples) * max((prod(sides) * count for sides, count in sizes.items()), default=0)
        while True:
            ran_out: MemoryError | None = None
            try:
                for row in self._batches(work, budget, show):
                    if (row.image, row.sample) not in given:
                        given.add((row.image, row.sample))
                        yield row
                    del row  # free its pixels, which may be many, before the next row is drawn
            except MemoryError as error:
                ran_out = MemoryError(*error.args)  # a copy, because the original keeps all local variables alive
            except InputError:
                if budget == whole:
                    raise
                raise MemoryError(
                    f"memory ran out with a pixel budget of {2 * budget}, and a smaller one does not allow tiles"
                ) from None
            if ran_out is None:
                self.pixel_budget = min(self.pixel_budget, budget)
                return
            budget = min(budget, most) // 2
            if budget < self.model.size_multiple**2:
                raise ran_out
            self.graphs.spare_memory()
            warnings.warn(f"memory ran out; continuing with a pixel budget of {budget}", stacklevel=2)

    def _batches(self, work: Work, budget: int, show: ShowWindows | None) -> Iterator[Row]:
        """Run all batches. Yield each row when its last window is finished."""
        windows = [self.windows(condition, budget) for condition in work.conditions]
        work.begin(windows, self.room(budget))
        rows = Assembly(self.model, work.conditions, windows)
        done, count = 0, sum(len(work.samples) * len(of_image) for of_image in windows)
        for units in plan_runs(windows, work.samples, self.room(budget), CANVAS_PIXELS):
            for part in work.run(units):
                if (row := rows.add(part)) is not None:
                    yield row
                del part, row
            done += sum(len(unit.samples) for unit in units)
            if show:
                show(done, count)
