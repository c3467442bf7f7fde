"""Runs images through the graphs: cuts them into tiles, runs these in limited batches, and assembles the results."""

import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.batching import batch_arrays
from caflow_runtime.batching.batch_size import BatchCost, BatchLimits, TileBatch, most_unfinished, plan_batches
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.batching.prune import LevelPruning
from caflow_runtime.batching.tile_merging import BatchItem, TileMerger, TileResult
from caflow_runtime.batching.work import SamplingWork, ScoringWork
from caflow_runtime.bundle.known_values import drawn_pixels, with_known
from caflow_runtime.degradation import known
from caflow_runtime.errors import InputError
from caflow_runtime.flow import level_chain
from caflow_runtime.flow.level_chain import Array
from caflow_runtime.flow.noise import DrawNoise
from caflow_runtime.flow.tiles import WINDOW, Tile, TooSmall, cut, estimate_windows
from caflow_runtime.image_arrays import Image

CANVAS_PIXELS = 2**25
"""Largest number of target pixels of tiled images that are unfinished at the same time. Each pixel takes 12 bytes."""

ShowWindows = Callable[[int, int], None]
"""Callback for progress. Its arguments are the number of windows that are finished, and their total number, over all
samples. A window is a whole image, or a tile of a large image."""


@dataclass
class _Plan:
    """Batches that have not run yet, and the items that are not finished."""

    budget: int
    """Pixel budget of the batches."""
    batches: deque[list[TileBatch]]
    items: TileMerger
    stays: bool
    """Whether pixels stay on the device. Pixels of tiled images do not, because the host assembles them."""
    done: int
    """Number of finished windows."""
    count: int
    """Number of windows of all samples."""


class Runner:
    """Runs items. Any thread may use it. Only the pixel budget ever changes: it is halved when memory runs out."""

    def __init__(
        self, graphs: Graphs, pixel_budget: int, overlap: int, assume: Mapping[str, float] | None = None
    ) -> None:
        """Describe the runs.

        Arguments:
            assume: what is known of the degradation of all conditions, as in `caflow_runtime.degradation.known`.

        Raises:
            InputError: if a name or a value is not valid, or if the model is not told of degradations.
        """
        self.graphs = graphs
        self.backend = graphs.backend
        self.model = graphs.manifest.model
        self.pixel_budget = pixel_budget
        self.overlap = overlap
        self.assume: Mapping[str, float] = {} if assume is None else assume
        self._known = known(self.assume)
        if self._known and "estimate" not in graphs:
            raise InputError(f"assume: {graphs.folder.name} is not told how its input was degraded: use another model")

    def limits(self, budget: int | None = None) -> BatchLimits:
        """Return the limits of one run. `budget` is in target pixels; by default, it is the whole pixel budget."""
        return BatchLimits(budget or self.pixel_budget, self.backend.profile)

    def windows(self, condition: Image, budget: int | None = None) -> list[Tile]:
        """Return the windows of a condition's target. Windows without a pixel that is drawn are left out.

        Arguments:
            budget: largest size of a window, in target pixels; by default the whole pixel budget.

        Raises:
            InputError: if the windows would be too small for the overlap, if the image has to be padded or cut and the
                model does not support that, or if all values of the target are known.
        """
        scale = self.model.scale
        windows = self.windows_of(scale * condition.shape[0], scale * condition.shape[1], budget)
        drawn = drawn_pixels(condition, self.model)
        return windows if drawn is None else with_drawn(windows, drawn)

    def windows_of(self, height: int, width: int, budget: int | None = None) -> list[Tile]:
        """Return the windows of a target of this size in pixels, as `windows` does.

        Raises:
            InputError: as `windows` does.
        """
        model, budget = self.model, budget or self.pixel_budget
        try:
            windows = cut(height, width, model.size_multiple, budget, self.overlap, self.limits(budget).largest_sides)
        except TooSmall as error:
            larger = ["a smaller overlap", "a larger pixel_budget"]
            larger += ["engines built with a larger --max-size"] if self.backend.profile else []
            raise InputError(f"{error}: use {' or '.join(larger)}") from None
        whole = len(windows) == 1 and windows[0].shape == (height, width)
        if not whole and not model.can_be_tiled:
            raise InputError(
                f"this model needs whole images, which cannot be padded or cut: sides must be multiples of "
                f"{model.size_multiple}, and images must have at most {budget} pixels; got {width}×{height}"
            )
        return windows

    def load_of(self, height: int, width: int, samples: int, images: int = 1) -> BatchCost:
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
        items = min(unfinished, self.limits().items(windows[0]))
        units = min(images * len(windows), self.limits().items(windows[0]) // unfinished) or 1
        canvases = unfinished if len(windows) > 1 else 0
        return BatchCost(len(windows), pixels, units, units * items, canvases, -(-samples // unfinished))

    def _padded_sides(self, condition: Image) -> tuple[int, int]:
        """Return height and width of a condition's target with its padding, in pixels."""
        multiple = self.model.size_multiple
        height, width = (-(-side * self.model.scale // multiple) * multiple for side in condition.shape[:2])
        return height, width

    def degradations(self, conditions: Sequence[Image]) -> NDArray[np.float32] | None:
        """Return how padded conditions were degraded, (images, 13) float32. What is known replaces the estimates.

        Return None if the model is not told of degradations.
        """
        if "estimate" not in self.graphs:
            return None
        graph, backend, scale, profile = self.graphs["estimate"], self.backend, self.model.scale, self.backend.profile
        largest = (WINDOW, WINDOW) if profile is None else (profile.height // scale, profile.width // scale)
        found = []
        for condition in conditions:
            estimates = []
            for window in estimate_windows(condition, self.model.size_multiple // scale, largest):
                estimate = graph({"condition": backend.to_device(window)})["degradation"]
                estimates.append(backend.to_host(estimate)[0])
            mean = np.asarray(np.mean(estimates, 0, dtype=np.float64), np.float32)
            mean[list(self._known)] = list(self._known.values())
            found.append(mean)
        return np.stack(found)

    def draw(
        self,
        conditions: Sequence[Image],
        samples: Sequence[int],
        config: DrawOptions,
        show: ShowWindows | None = None,
        draw_noise: DrawNoise | None = None,
    ) -> Iterator[BatchItem]:
        """Draw samples of all conditions. Yield each item when it is finished.

        Arguments:
            samples: numbers of the samples to draw of each condition.
            config: settings. With `config.keep`, dropped samples are not yielded.
            show: receives the progress.
            draw_noise: function that draws the noise of one level; by default the backend's.

        Raises:
            InputError: if `config.keep` is used and the samples of an image do not all fit into one batch.
            MemoryError: if memory runs out even with the smallest tiles.
        """
        return self._run(SamplingWork(conditions, samples, config, draw_noise), show)

    def score(
        self, targets: Sequence[Image], conditions: Sequence[Image], show: ShowWindows | None = None
    ) -> Iterator[BatchItem]:
        """Compute the likelihoods of existing targets. Yield each item when it is finished.

        Raises:
            MemoryError: if memory runs out even with the smallest tiles.
        """
        pairs = zip(targets, conditions, strict=True)
        completed = [with_known(target, condition, self.model) for target, condition in pairs]
        padded = [batch_arrays.padded(target, self.model, 1) for target in completed]
        return self._run(ScoringWork(conditions, padded), show)

    def _run(self, work: SamplingWork | ScoringWork, show: ShowWindows | None) -> Iterator[BatchItem]:
        """Run batch by batch. Yield each item when its last tile is finished.

        When memory runs out, the missing items and later calls run with half the pixel budget.
        """
        graphs, levels, finished = self.graphs, self.model.levels, set[tuple[int, int]]()
        conditions = [batch_arrays.padded(condition, self.model, self.model.scale) for condition in work.conditions]
        degradations = self.degradations(conditions)
        plan, encoded = self._plan(work, self.pixel_budget, finished), dict[str, Array]()
        noise: list[Array] | None
        run: level_chain.ChainResult | None
        while plan.batches:
            units, results, ran_out = plan.batches.popleft(), list[TileResult](), None
            try:
                encoded = encoded or batch_arrays.encode(graphs, units, conditions, degradations)
                if isinstance(work, SamplingWork):
                    pruning = None if work.config.keep is None else LevelPruning(graphs, units, work.config.keep)
                    noise = batch_arrays.draw_noise(graphs, units, work.config, work.draw_noise)
                    run = level_chain.sample(
                        graphs, levels, encoded, batch_arrays.owners(graphs, units), noise, pruning
                    )
                    results = batch_arrays.results_of_samples(graphs, units, run, plan.stays)
                else:
                    run = batch_arrays.score(graphs, units, work.targets, encoded)
                    results = batch_arrays.results_of_targets(graphs, units, run)
                noise = run = None
                if not plan.batches or batch_arrays.tiles_of(plan.batches[0]) != batch_arrays.tiles_of(units):
                    encoded = {}
                while results:
                    item = plan.items.add(results.pop(0))
                    if item is not None and (item.image, item.sample) not in finished:
                        finished.add((item.image, item.sample))
                        yield item
                    del item  # free its pixels, which may be many, before the next item is drawn
            except MemoryError as error:
                ran_out = MemoryError(*error.args)  # a copy, because the original keeps all local variables alive
            if ran_out is not None:
                encoded, noise, run, results = {}, None, None, []
                plan = self._plan_with_less(work, plan.budget, finished, ran_out)
                continue
            plan.done += sum(len(unit.samples) for unit in units)
            if show:
                show(plan.done, plan.count)
        self.pixel_budget = min(self.pixel_budget, plan.budget)

    def _plan(self, work: SamplingWork | ScoringWork, budget: int, finished: set[tuple[int, int]]) -> _Plan:
        """Return the batches with items that are not finished.

        Raises:
            InputError: as `windows` does, and if samples are to be dropped that do not all fit into one batch.
        """
        windows, limits = [self.windows(condition, budget) for condition in work.conditions], self.limits(budget)
        if isinstance(work, SamplingWork) and work.config.keep is not None:
            _check_prunable(windows, len(work.samples), limits)
        batches = plan_batches(windows, work.samples, limits, CANVAS_PIXELS)
        missing = [b for b in batches if any((unit.image, k) not in finished for unit in b for k in unit.samples)]
        items = TileMerger(self.model, work.conditions, windows)
        is_whole = all(len(one) == 1 and one[0].drawn is None for one in windows)
        count, left = (sum(len(unit.samples) for one in some for unit in one) for some in (batches, missing))
        return _Plan(budget, deque(missing), items, is_whole, count - left, count)

    def _plan_with_less(
        self, work: SamplingWork | ScoringWork, budget: int, finished: set[tuple[int, int]], ran_out: MemoryError
    ) -> _Plan:
        """Return a plan with half the pixel budget, after memory ran out.

        Raises:
            MemoryError: if less is not possible.
        """
        # Halving begins at the pixels of all items of one size, which may share a batch. More budget has no effect.
        sizes = Counter(self._padded_sides(one) for one in work.conditions)
        most = len(work.samples) * max(prod(sides) * count for sides, count in sizes.items())
        budget = min(budget, most) // 2
        if budget < self.model.size_multiple**2:
            raise ran_out
        self.graphs.spare_memory()
        warnings.warn(f"memory ran out; continuing with a pixel budget of {budget}", stacklevel=3)
        try:
            return self._plan(work, budget, finished)
        except InputError:
            raise MemoryError(
                f"memory ran out with a pixel budget of {2 * budget}, and a smaller one does not allow tiles"
            ) from None


def with_drawn(windows: Sequence[Tile], drawn: NDArray[np.bool_]) -> list[Tile]:
    """Return the windows of an image that contain a pixel that is drawn, each with its part of these pixels.

    Arguments:
        drawn: (H, W) bool, the pixels of the whole image.

    Raises:
        InputError: if no pixel is drawn.
    """
    whole = np.zeros((max(one.y.end for one in windows), max(one.x.end for one in windows)), bool)
    whole[: drawn.shape[0], : drawn.shape[1]] = drawn
    parts = [replace(one, drawn=whole[one.y.start : one.y.end, one.x.start : one.x.end]) for one in windows]
    kept = [one for one in parts if one.drawn is not None and one.drawn.any()]
    if not kept:
        raise InputError("all values of this image are known, so there is nothing to draw: give a mask with a hole")
    return kept


def _check_prunable(windows: Sequence[list[Tile]], samples: int, limits: BatchLimits) -> None:
    """Check that all samples of each image fit into one batch, in which their likelihoods can be compared."""
    for of_image in windows:
        if len(of_image) > 1 or samples > limits.items(of_image[0]):
            height, width = of_image[-1].y.end, of_image[-1].x.end
            raise InputError(
                f"keep: all {samples} samples of an image must fit in one batch, {width}×{height} "
                f"pixels each: use {limits.remedy(samples, height, width)}"
            )
