"""One run of the chain: the rows of a plan's units, from host arrays to the device and through all graphs."""

from collections.abc import Sequence
from itertools import chain as joined
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.bundle.manifest import cell_side
from caflow_runtime.bundle.wrong_bundle import WrongShape
from caflow_runtime.flow import scan
from caflow_runtime.flow.batching import Unit
from caflow_runtime.flow.noise import DrawNoise, LevelNoise, Place, draw_noise, draw_rows
from caflow_runtime.flow.scan import Array, Arrays
from caflow_runtime.flow.tiles import Window, weighted
from caflow_runtime.image import Image
from caflow_runtime.rows.pixels import DevicePixels, HostPixels, Pixels


class Chain:
    """Runs units of one window shape. What it gives lies on the device."""

    def __init__(self, graphs: Graphs) -> None:
        self.graphs = graphs
        self.backend = graphs.backend
        self.model = graphs.manifest.model

    def noise(
        self, units: list[Unit], temperatures: Sequence[float], seed: int, frame: int, draw: DrawNoise
    ) -> list[Array]:
        """z of each level for all rows."""
        drawn = []
        for j, channels in enumerate(self.model.noise_channels):
            places = [_place(unit, cell_side(self.model, f"decode_{j}")) for unit in units]
            z = LevelNoise(channels, j, places, temperatures[j : j + len(channels)], seed, frame)
            is_base = draw is draw_noise  # which a backend may draw itself
            drawn.append(self.backend.draw_noise(z) if is_base else self.backend.to_device(draw_rows(z, draw)))
        return drawn

    def conditions(self, units: list[Unit], padded: list[Image]) -> Array:
        """(units, h, w, 3) uint8."""
        given = np.stack([_window_of(padded[unit.image], unit.window, self.model.scale) for unit in units])
        return self.backend.to_device(given)

    def encode(self, units: list[Unit], padded: list[Image]) -> Arrays:
        """What follows from the units' conditions."""
        return scan.encode(self.graphs, self.conditions(units, padded))

    def sample(
        self, units: list[Unit], encoded: Arrays, noise: list[Array], keep: Sequence[int] | None = None
    ) -> scan.Rows:
        """Samples of conditions that are encoded."""
        prune = None if keep is None else self._prune(units, keep)
        return scan.sample(self.graphs, self.model.levels, encoded, self.owners(units), noise, prune, self.backend.take)

    def sample_at_once(self, condition: Array, owners: Array, noise: list[Array]) -> scan.Rows:
        """Conditions to samples with nothing in between, which a backend may record and repeat."""

        def run(arrays: Arrays) -> dict[str, Array]:
            encoded = scan.encode(self.graphs, arrays["condition"])
            z = [arrays[f"z_{j}"] for j in range(self.model.levels)]
            rows = scan.sample(self.graphs, self.model.levels, encoded, arrays["image"], z)
            shares = {f"share_{k}": share for k, share in enumerate(joined.from_iterable(rows.shares))}
            return {"pixels": rows.pixels} | shares

        given = {"condition": condition, "image": owners} | {f"z_{j}": z for j, z in enumerate(noise)}
        out = self.backend.replay("sample", run, given)
        shares = [[out[f"share_{2 * j}"], out[f"share_{2 * j + 1}"]] for j in range(self.model.levels)]
        return scan.Rows(out["pixels"], noise, shares)

    def score(self, units: list[Unit], padded_targets: list[Image], padded: list[Image]) -> scan.Rows:
        """Given targets."""
        encoded, image = self.encode(units, padded), self.owners(units)
        integers = np.stack([_window_of(padded_targets[unit.image], unit.window, 1) for unit in units])
        if "dequantize" not in self.graphs:
            pixels = self.backend.to_device(integers + np.float32(0.5))
            return scan.score(self.graphs, self.model.levels, encoded, image, pixels)
        out = self.graphs["dequantize"]({"integers": self.backend.to_device(integers)})
        rows = scan.score(self.graphs, self.model.levels, encoded, image, out["pixels"])
        rows.shares[-1].append(out["share"])
        return rows

    def pixels(self, rows: scan.Rows, stay: bool) -> Sequence[Pixels]:
        """Of each row; `stay`: on the device, where it can say which are finite."""
        if stay and self.backend.finds_not_finite:
            finite = self.backend.are_finite(rows.pixels)
            return [DevicePixels(self.graphs, rows.pixels, r, bool(judged)) for r, judged in enumerate(finite)]
        return [HostPixels(pixels) for pixels in self.backend.to_host(rows.pixels)]

    def shares(self, rows: scan.Rows, window: Window) -> list[list[NDArray[np.float32]]]:
        """The maps of each level, (R, h, w), on the host.

        Raises:
            WrongShape: if the cells of a map do not fit the window.
        """
        return [[self._share(share, window) for share in maps] for maps in rows.shares]

    def owners(self, units: list[Unit]) -> Array:
        """Which unit each row is of."""
        return self.backend.to_device(np.repeat(np.arange(len(units)), [len(unit.samples) for unit in units]))

    def _share(self, share: Array, window: Window) -> NDArray[np.float32]:
        found = self.backend.to_host(share)
        (height, width), (rows, columns) = window.shape, found.shape[1:]
        cell = height // rows
        if (cell * rows, cell * columns) != (height, width):
            raise WrongShape(
                f"{self.graphs.folder}: wanted shares with square cells for targets of {height}×{width}, got "
                f"{rows}×{columns} cells: export the model again"
            )
        return found

    def _prune(self, units: list[Unit], keep: Sequence[int]) -> scan.Prune:
        """Keeps the `keep[j + 1]` most likely rows of each unit after level j."""
        owner = np.repeat(np.arange(len(units)), [len(unit.samples) for unit in units])

        def prune(j: int, shares: list[list[Any]]) -> NDArray[np.int64] | None:
            nonlocal owner
            if keep[j + 1] == keep[j]:
                return None
            likelihood = self._so_far(units, owner, shares)
            chosen = []
            for k in range(len(units)):
                rows = np.flatnonzero(owner == k)
                chosen.append(np.sort(rows[np.argsort(-likelihood[rows], kind="stable")[: keep[j + 1]]]))
            kept = np.concatenate(chosen)
            owner = owner[kept]
            return kept

        return prune

    def _so_far(self, units: list[Unit], owner: NDArray[np.int64], shares: list[list[Any]]) -> NDArray[np.float64]:
        """Log-likelihood of each row over the levels so far; what is not finite is worse than anything."""
        total = np.zeros(len(owner))
        for share in (self._share(share, units[0].window) for maps in shares for share in maps):
            cell = units[0].window.y.length // share.shape[1]
            total += [weighted(units[k].window, row, cell).sum() for k, row in zip(owner, share, strict=True)]
        return np.where(np.isfinite(total), total, -np.inf)


def _place(unit: Unit, cell: int) -> Place:
    """Of a unit's noise, in positions of a level with cells of that side."""
    y, x = unit.window.y, unit.window.x
    return Place(y.start // cell, x.start // cell, y.length // cell, x.length // cell, unit.samples)


def _window_of(padded: Image, window: Window, scale: int) -> Image:
    """A window of an image whose target is `scale` times as large."""
    rows, columns = (slice(axis.start // scale, axis.end // scale) for axis in (window.y, window.x))
    return padded[rows, columns]
