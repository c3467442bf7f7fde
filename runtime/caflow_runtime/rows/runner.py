"""Images through the graphs: cut into windows, their noise drawn, run in bounded batches, and put together again."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.bundle.manifest import cell_side
from caflow_runtime.errors import InputError
from caflow_runtime.flow import scan
from caflow_runtime.flow.batching import Room, Unit, plan
from caflow_runtime.flow.noise import DrawNoise, draw_noise
from caflow_runtime.flow.shares import Shares, shares_per_level
from caflow_runtime.flow.tiles import Canvas, TooSmall, Window, cut, pad
from caflow_runtime.image import Image
from caflow_runtime.rows.device_run import Chain
from caflow_runtime.rows.draw import per_level
from caflow_runtime.rows.pixels import HostPixels, Pixels

CANVAS_PIXELS = 2**25
"""Target pixels of tiled images that are unfinished at the same time, 12 bytes each."""

Show = Callable[[int, int], None]
"""Is given how many windows of samples are done, and how many there are."""
Floats = NDArray[np.float32]
Noise = list[Floats]
"""z of each level, coarsest first: (R, channels, h, w), the z[i, j], i = j … n−1, side by side."""


@dataclass(frozen=True)
class Row:
    """One finished (image, sample) pair, put together from its windows."""

    image: int
    sample: int
    pixels: Pixels | None
    """Of a sample."""
    shares: Shares
    per_level: NDArray[np.float64]
    """(n,) nats."""


@dataclass(frozen=True)
class Part:
    """What one window adds to a row."""

    image: int
    sample: int
    window: Window
    pixels: Pixels | None
    """Of the window."""
    shares: list[Floats]
    """Of all levels: of decode and reverse, or of forward and likelihood; then that of the dequantization."""


class Runner:
    """Runs rows. Any thread may use it: all that ever changes is the pixel budget, halved when memory runs out."""

    def __init__(self, graphs: Graphs, pixel_budget: int, overlap: int) -> None:
        self.graphs = graphs
        self.backend = graphs.backend
        self.model = graphs.manifest.model
        self.chain = Chain(graphs)
        self.pixel_budget = pixel_budget
        self.overlap = overlap

    def room(self, budget: int | None = None) -> Room:
        """Of one run, by default with the whole pixel budget."""
        return Room(budget or self.pixel_budget, self.backend.profiles)

    def windows(self, condition: Image, budget: int | None = None) -> list[Window]:
        """Of the target of a condition, by default with the whole pixel budget.

        Raises:
            InputError: if the image would have to be padded or cut, and its model does not allow that.
        """
        model, budget = self.model, budget or self.pixel_budget
        height, width = (model.scale * side for side in condition.shape[:2])
        try:
            windows = cut(height, width, model.size_multiple, budget, self.overlap, self.room(budget).largest_sides)
        except TooSmall as error:
            larger = ["a smaller overlap", "a larger pixel_budget"]
            larger += ["engines of a larger --max-size"] if self.backend.profiles else []
            raise InputError(f"{error}: give {' or '.join(larger)}") from None
        whole = len(windows) == 1 and windows[0].shape == (height, width)
        if not whole and model.task_settings.get("mask") == "central":
            raise InputError(
                f"this model fills a hole in the middle, so images cannot be padded or cut: wanted sides that are "
                f"multiples of {model.size_multiple} and at most {budget} pixels, got {height}×{width}"
            )
        return windows

    def _padded_sides(self, condition: Image) -> tuple[int, int]:
        """Of its target."""
        multiple = self.model.size_multiple
        height, width = (-(-side * self.model.scale // multiple) * multiple for side in condition.shape[:2])
        return height, width

    def _single_window(self, condition: Image) -> Window:
        """Of an image that is not cut.

        Raises:
            InputError: if it has to be.
        """
        windows = self.windows(condition)
        if len(windows) > 1:
            height, width = self._padded_sides(condition)
            raise InputError(
                f"noise is given for an image as a whole, which must run at once, {height}×{width} pixels: give "
                f"{self.room().remedy(1, height, width)}"
            )
        return windows[0]

    def draw(
        self,
        conditions: list[Image],
        samples: Sequence[int],
        temperature: float | Sequence[float],
        seed: int,
        frame: int,
        keep: Sequence[int] | None = None,
        show: Show | None = None,
        draw_noise: DrawNoise = draw_noise,
    ) -> Iterator[Row]:
        """Samples, by their numbers, of all conditions, as they are finished; with `keep` those that were not dropped.

        Raises:
            InputError: if samples are to be dropped of an image that is cut into tiles or runs.
            MemoryError: if memory runs out with the smallest tiles, too.
        """
        return self._within_memory(
            lambda budget: self._draw(budget, conditions, samples, temperature, seed, frame, keep, show, draw_noise),
            len(samples) * max((math.prod(self._padded_sides(condition)) for condition in conditions), default=0),
        )

    def score(self, targets: list[Image], conditions: list[Image], show: Show | None = None) -> Iterator[Row]:
        """The likelihood of given targets, as they are finished.

        Raises:
            MemoryError: if memory runs out with the smallest tiles, too.
        """
        return self._within_memory(
            lambda budget: self._score_all(budget, targets, conditions, show),
            max((math.prod(self._padded_sides(condition)) for condition in conditions), default=0),
        )

    def _within_memory(self, run: Callable[[int], Iterator[Row]], rows_pixels: int) -> Iterator[Row]:
        """The rows of `run`, which is given a pixel budget: half of it each time memory runs out, and for later calls.

        It then runs anew; rows that were given are not given again.

        Arguments:
            rows_pixels: of all rows of the largest image: a larger budget makes no difference.
        """
        given: set[tuple[int, int]] = set()
        whole = budget = self.pixel_budget
        while True:
            ran_out: MemoryError | None = None
            try:
                for row in run(budget):
                    if (row.image, row.sample) not in given:
                        given.add((row.image, row.sample))
                        yield row
            except MemoryError as error:
                ran_out = MemoryError(*error.args)  # another one: this holds all that was alive where it was raised
            except InputError:
                if budget == whole:
                    raise
                raise MemoryError(f"memory ran out with a pixel_budget of {2 * budget}; less holds no tile") from None
            if ran_out is None:
                self.pixel_budget = min(self.pixel_budget, budget)
                return
            budget = min(budget, rows_pixels) // 2
            if budget < self.model.size_multiple**2:
                raise ran_out
            warnings.warn(f"memory ran out, going on with a pixel_budget of {budget}", stacklevel=2)

    def _draw(
        self,
        budget: int,
        conditions: list[Image],
        samples: Sequence[int],
        temperature: float | Sequence[float],
        seed: int,
        frame: int,
        keep: Sequence[int] | None,
        show: Show | None,
        draw_noise: DrawNoise,
    ) -> Iterator[Row]:
        temperatures = per_level(temperature, self.model.levels)
        windows = [self.windows(condition, budget) for condition in conditions]
        if keep is not None:
            self._check_prunable(windows, len(samples), budget)
        stay = all(len(of_image) == 1 for of_image in windows)
        padded = [self._padded(condition, self.model.scale) for condition in conditions]
        last: tuple[list[tuple[int, int, int]], scan.Arrays] | None = None

        def run(units: list[Unit]) -> Iterator[Part]:
            nonlocal last
            noise = self.chain.noise(units, temperatures, seed, frame, draw_noise)
            if keep is None and all(len(unit.samples) == len(samples) for unit in units):
                owners = self.chain.owners(units)
                rows = self.chain.sample_at_once(self.chain.conditions(units, padded), owners, noise)
                return self._parts(units, rows, stay=stay)
            places = [(unit.image, unit.window.y.start, unit.window.x.start) for unit in units]
            if last is None or last[0] != places:  # more samples of the same windows need no new encoding
                last = places, self.chain.encode(units, padded)
            return self._parts(units, self.chain.sample(units, last[1], noise, keep), stay=stay)

        return self._run_all(windows, samples, budget, conditions, run, show)

    def _score_all(
        self, budget: int, targets: list[Image], conditions: list[Image], show: Show | None
    ) -> Iterator[Row]:
        padded = [self._padded(condition, self.model.scale) for condition in conditions]
        padded_targets = [self._padded(target, 1) for target in targets]

        def run(units: list[Unit]) -> Iterator[Part]:
            return self._parts(units, self.chain.score(units, padded_targets, padded), keeps_pixels=False)

        windows = [self.windows(condition, budget) for condition in conditions]
        return self._run_all(windows, [0], budget, conditions, run, show)

    def encode(self, target: Image, condition: Image) -> tuple[Noise, Row]:
        """The noise of a target, (1, channels, h, w) each, and its likelihood.

        Raises:
            InputError: if it needs more than one tile.
        """
        unit = Unit(0, self._single_window(condition), (0,))
        rows = self.chain.score([unit], [self._padded(target, 1)], [self._padded(condition, self.model.scale)])
        return [self.backend.to_host(z) for z in rows.noise], self._finish(unit, rows, condition, keeps_pixels=False)

    def decode(self, noise: Noise, condition: Image) -> Row:
        """The image that noise makes.

        Raises:
            InputError: if it needs more than one tile, or the noise does not fit.
        """
        unit = Unit(0, self._single_window(condition), (0,))
        wanted = [
            (1, sum(channels), *(side // cell_side(self.model, f"decode_{j}") for side in unit.window.shape))
            for j, channels in enumerate(self.model.noise_channels)
        ]
        if [z.shape for z in noise] != wanted:
            raise InputError(f"noise: wanted arrays of shapes {wanted}, got {[z.shape for z in noise]}")
        encoded = self.chain.encode([unit], [self._padded(condition, self.model.scale)])
        device = [self.backend.to_device(z) for z in noise]
        return self._finish(unit, self.chain.sample([unit], encoded, device), condition, keeps_pixels=True)

    def _finish(self, unit: Unit, rows: scan.Rows, condition: Image, keeps_pixels: bool) -> Row:
        """The only row of a run of one."""
        (part,) = self._parts([unit], rows, keeps_pixels)
        canvas = Canvas(*(self.model.scale * side for side in condition.shape[:2]))
        canvas.add(part.window, None, part.shares)
        pixels = part.pixels and part.pixels.cropped(canvas.height, canvas.width)
        return Row(0, 0, pixels, canvas.shares, _per_level(canvas.shares, self.model.levels))

    def _run_all(
        self,
        windows: list[list[Window]],
        samples: Sequence[int],
        budget: int,
        conditions: list[Image],
        run: Callable[[list[Unit]], Iterable[Part]],
        show: Show | None = None,
    ) -> Iterator[Row]:
        """Plan, run, and put together."""
        done, count = 0, sum(len(samples) * len(of_image) for of_image in windows)
        canvases: dict[tuple[int, int], Canvas] = {}
        scale, levels = self.model.scale, self.model.levels
        for units in plan(windows, samples, self.room(budget), CANVAS_PIXELS):
            for part in run(units):
                key = (part.image, part.sample)
                if key not in canvases:
                    height, width = conditions[part.image].shape[:2]
                    canvases[key] = Canvas(scale * height, scale * width)
                canvas = canvases[key]
                is_whole, pixels = len(windows[part.image]) == 1, part.pixels
                canvas.add(part.window, pixels.floats() if pixels and not is_whole else None, part.shares)
                if canvas.windows == len(windows[part.image]):
                    del canvases[key]
                    if canvas.pixels is not None:
                        pixels = HostPixels(canvas.pixels)
                    inside = pixels and pixels.cropped(canvas.height, canvas.width)
                    yield Row(*key, inside, canvas.shares, _per_level(canvas.shares, levels))
            done += sum(len(unit.samples) for unit in units)
            if show:
                show(done, count)

    def _parts(
        self, units: list[Unit], rows: scan.Rows, keeps_pixels: bool = True, stay: bool = False
    ) -> Iterator[Part]:
        """The rows of a run, one by one, on the host, but for pixels that may stay where they are."""
        pairs = [(unit, sample) for unit in units for sample in unit.samples]
        kept = range(len(pairs)) if rows.kept is None else rows.kept
        shares = [share for maps in self.chain.shares(rows, units[0].window) for share in maps]
        pixels = self.chain.pixels(rows, stay) if keeps_pixels else [None] * len(kept)
        for r, index in enumerate(kept):
            unit, sample = pairs[index]
            yield Part(unit.image, sample, unit.window, pixels[r], [share[r] for share in shares])

    def _padded(self, image: Image, scale: int) -> Image:
        """An image, whose target is `scale` times as large, such that the target's sides are multiples."""
        multiple = self.model.size_multiple // scale
        height, width = (-(-side // multiple) * multiple for side in image.shape[:2])
        return pad(image, height, width)

    def _check_prunable(self, windows: list[list[Window]], samples: int, budget: int) -> None:
        for k, of_image in enumerate(windows):
            if len(of_image) > 1 or samples > self.room(budget).rows(of_image[0]):
                height, width = of_image[-1].y.end, of_image[-1].x.end
                raise InputError(
                    f"keep: all {samples} samples of images[{k}] must run at once, {height}×{width} "
                    f"pixels each: give {self.room(budget).remedy(samples, height, width)}"
                )


def _per_level(shares: Shares, levels: int) -> NDArray[np.float64]:
    """(n,) nats."""
    return np.array([sum(float(share.sum()) for _, share in level) for level in shares_per_level(shares, levels)])
