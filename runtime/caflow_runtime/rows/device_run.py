"""One run of the chain of graphs: copies the inputs of some units to the device, and runs all graphs on them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.bundle.manifest import Model, cell_side
from caflow_runtime.bundle.wrong_bundle import WrongShape
from caflow_runtime.degradation import known
from caflow_runtime.errors import InputError
from caflow_runtime.flow import scan
from caflow_runtime.flow.batching import Unit
from caflow_runtime.flow.estimate import WINDOW, estimate
from caflow_runtime.flow.noise import DrawNoise, LevelNoise, Place
from caflow_runtime.flow.scan import Array, Arrays
from caflow_runtime.flow.tiles import Window, pad, weighted
from caflow_runtime.image import Image
from caflow_runtime.rows.assembly import RowPart
from caflow_runtime.rows.draw import Draw
from caflow_runtime.rows.pixels import DevicePixels, HostPixels, Pixels


class GraphChain:
    """Runs the graphs on units whose windows have the same shape. The results stay on the device."""

    def __init__(self, graphs: Graphs, assume: Mapping[str, float] | None = None) -> None:
        """Describe the runs.

        Arguments:
            assume: what is known of the degradation of all conditions, as in `caflow_runtime.degradation.known`.

        Raises:
            InputError: if a name or a value is not valid, or if the model is not told of degradations.
        """
        self.graphs = graphs
        self.backend = graphs.backend
        self.model = graphs.manifest.model
        self._known = known(assume or {})
        if self._known and "estimate" not in graphs:
            raise InputError(f"assume: {graphs.folder.name} is not told how its input was degraded: use another model")

    def noise(self, units: list[Unit], draw: Draw, draw_noise: DrawNoise | None = None) -> list[Array]:
        """Draw the noise z of each level, the coarsest first, for all rows of the units.

        Arguments:
            draw_noise: function that draws the noise of one level; by default the backend's.
        """
        temperatures, drawn = tuple(draw.temperatures(self.model.levels)), []
        for j, channels in enumerate(self.model.noise_channels):
            places = tuple(_place(unit, cell_side(self.model, f"decode_{j}")) for unit in units)
            taus = temperatures[j : j + len(channels)]
            z = LevelNoise(tuple(channels), j, places, taus, draw.seed, draw.frame)
            drawn.append((draw_noise or self.backend.draw_noise)(z))
        return drawn

    def prepared(self, conditions: Sequence[Image]) -> "Prepared":
        """Pad conditions, and estimate how each of them was degraded if the model is told of it."""
        images = [padded(condition, self.model, self.model.scale) for condition in conditions]
        if "estimate" not in self.graphs:
            return Prepared(images, None)
        return Prepared(images, np.stack([self.degradation(image) for image in images]))

    def degradation(self, condition: Image) -> NDArray[np.float32]:
        """Return how a padded condition was degraded, (13,) float32. What is known replaces the estimate."""
        graph, scale, profile = self.graphs.on_host()["estimate"], self.model.scale, self.backend.profile
        largest = (WINDOW, WINDOW) if profile is None else (profile.height // scale, profile.width // scale)
        found = estimate(graph, condition, self.model.size_multiple // scale, largest)
        found[list(self._known)] = list(self._known.values())
        return found

    def encode(self, units: list[Unit], prepared: "Prepared") -> Arrays:
        """Run the graph that depends on the condition only, once for each unit.

        Return the outputs of the graph by name, on the device.
        """
        windows = np.stack([_window_of(prepared.images[unit.image], unit.window, self.model.scale) for unit in units])
        given = self.backend.to_device(windows)
        if prepared.degradation is None:
            return scan.encode(self.graphs, given)
        by_unit = prepared.degradation[[unit.image for unit in units]]
        return scan.encode(self.graphs, given, self.backend.to_device(by_unit))

    def sample(
        self, units: list[Unit], encoded: Arrays, noise: list[Array], keep: Sequence[int] | None = None
    ) -> scan.Rows:
        """Draw samples of encoded conditions.

        Arguments:
            encoded: outputs of `encode`.
            noise: z of each level, the coarsest first.
            keep: number of samples of each unit that run at each level. By default, no sample is dropped.
        """
        pruning = None if keep is None else LeastLikely(self, units, keep)
        return scan.sample(self.graphs, self.model.levels, encoded, self.owners(units), noise, pruning)

    def score(self, units: list[Unit], padded_targets: list[Image], prepared: "Prepared") -> scan.Rows:
        """Compute the likelihoods and the latents of existing targets."""
        encoded, image = self.encode(units, prepared), self.owners(units)
        integers = np.stack([_window_of(padded_targets[unit.image], unit.window, 1) for unit in units])
        if "dequantize" not in self.graphs:
            pixels = self.backend.to_device(integers + np.float32(0.5))
            return scan.score(self.graphs, self.model.levels, encoded, image, pixels)
        out = self.graphs["dequantize"]({"integers": self.backend.to_device(integers)})
        rows = scan.score(self.graphs, self.model.levels, encoded, image, out["pixels"])
        rows.shares[-1].append(out["share"])
        return rows

    def parts(self, units: list[Unit], rows: scan.Rows, pixels: Sequence[Pixels] | None = None) -> Iterator[RowPart]:
        """Yield the rows of a run: samples with their pixels, or existing targets with their latents."""
        pairs = [(unit, sample) for unit in units for sample in unit.samples]
        kept = range(len(pairs)) if rows.kept is None else rows.kept
        shares = [share for maps in self.shares(rows, units[0].window) for share in maps]
        latents = [] if pixels else [self.backend.to_host(z) for z in rows.noise]
        for r, index in enumerate(kept):
            unit, sample = pairs[index]
            of_row = pixels[r] if pixels else None
            yield RowPart(
                unit.image, sample, unit.window, of_row, [share[r] for share in shares], [z[r] for z in latents]
            )

    def pixels(self, rows: scan.Rows, stay: bool) -> Sequence[Pixels]:
        """Return the pixels of each row.

        With `stay`, they stay on the device if the backend can find values there that are not finite.
        """
        if stay and self.backend.finds_not_finite:
            finite = self.backend.are_finite(rows.pixels)
            return [DevicePixels(self.graphs, rows.pixels, r, bool(judged)) for r, judged in enumerate(finite)]
        return [HostPixels(pixels) for pixels in self.backend.to_host(rows.pixels)]

    def shares(self, rows: scan.Rows, window: Window) -> list[list[NDArray[np.float32]]]:
        """Return the share maps of each level on the host, each (R, h, w) in nats.

        Raises:
            WrongShape: if the cells of a map are not square, or do not fit the window.
        """
        return [[self.share(share, window) for share in maps] for maps in rows.shares]

    def owners(self, units: list[Unit]) -> Array:
        """Return the index of the unit of each row, as a device array."""
        return self.backend.to_device(np.repeat(np.arange(len(units)), [len(unit.samples) for unit in units]))

    def share(self, share: Array, window: Window) -> NDArray[np.float32]:
        """Return one share map on the host, as `shares` does."""
        found = self.backend.to_host(share)
        (height, width), (rows, columns) = window.shape, found.shape[1:]
        cell = height // rows
        if (cell * rows, cell * columns) != (height, width):
            raise WrongShape(
                f"{self.graphs.folder}: shares must have square cells and fit targets of {width}×{height} pixels; got "
                f"{columns}×{rows} cells: export the model again"
            )
        return found


class LeastLikely:
    """Progressive best-of-N: drops the least likely samples of each unit between levels.

    `keep[j + 1]` samples remain after level j.
    """

    def __init__(self, run: GraphChain, units: list[Unit], keep: Sequence[int]) -> None:
        self.run = run
        self.units = units
        self.keep = keep
        self._owner = np.repeat(np.arange(len(units)), [len(unit.samples) for unit in units])

    def take(self, array: Array, rows: NDArray[np.int64]) -> Array:
        return self.run.backend.take(array, rows)

    def kept(self, j: int, shares: list[list[Array]]) -> NDArray[np.int64] | None:
        if self.keep[j + 1] == self.keep[j]:
            return None
        likelihood = self._so_far(shares)
        chosen = []
        for k in range(len(self.units)):
            rows = np.flatnonzero(self._owner == k)
            chosen.append(np.sort(rows[np.argsort(-likelihood[rows], kind="stable")[: self.keep[j + 1]]]))
        kept = np.concatenate(chosen)
        self._owner = self._owner[kept]
        return kept

    def _so_far(self, shares: list[list[Array]]) -> NDArray[np.float64]:
        """Return the log-likelihood of each row over the levels so far. Values that are not finite become −∞."""
        total, window = np.zeros(len(self._owner)), self.units[0].window
        for share in (self.run.share(share, window) for maps in shares for share in maps):
            cell = window.y.length // share.shape[1]
            windows = (self.units[k].window for k in self._owner)
            total += [weighted(of_row, row, cell).sum() for of_row, row in zip(windows, share, strict=True)]
        return np.where(np.isfinite(total), total, -np.inf)


@dataclass(frozen=True)
class Prepared:
    """Conditions of some images as the graphs read them."""

    images: list[Image]
    """Padded conditions."""
    degradation: NDArray[np.float32] | None
    """(images, 13) degradation of each whole image; None if the model is not told of it."""


def padded(image: Image, model: Model, scale: int) -> Image:
    """Return an image padded so that the sides of its target are multiples of the size multiple.

    Arguments:
        scale: side of the target divided by the side of the image.
    """
    multiple = model.size_multiple // scale
    height, width = (-(-side // multiple) * multiple for side in image.shape[:2])
    return pad(image, height, width)


def _place(unit: Unit, cell: int) -> Place:
    """Return the place of a unit's noise on a level. `cell` is the side of the level's positions in target pixels."""
    y, x = unit.window.y, unit.window.x
    return Place(y.start // cell, x.start // cell, y.length // cell, x.length // cell, unit.samples)


def _window_of(padded: Image, window: Window, scale: int) -> Image:
    """Return a window of an image whose target is `scale` times as large."""
    rows, columns = (slice(axis.start // scale, axis.end // scale) for axis in (window.y, window.x))
    return padded[rows, columns]
