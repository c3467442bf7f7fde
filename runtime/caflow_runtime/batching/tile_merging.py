"""Assembly of items from their windows, which finish batch by batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.batching.pixels import HostPixels, Pixels
from caflow_runtime.bundle.known_values import completed
from caflow_runtime.bundle.manifest import Model
from caflow_runtime.flow.latent_statistics import BlockSums, statistics_of, sums_of
from caflow_runtime.flow.log_likelihood_maps import LogLikelihoodMaps, log_likelihood_per_level
from caflow_runtime.flow.tiles import Tile, TileCanvas
from caflow_runtime.image_arrays import Image


@dataclass(frozen=True)
class BatchItem:
    """One finished item: a sample of an image, or an existing target with its likelihood."""

    image: int
    """Index of the image among the conditions."""
    sample: int
    """Number of the sample, from 0."""
    pixels: Pixels | None
    """Pixels of the sample; None for an existing target."""
    maps: LogLikelihoodMaps
    """Log-likelihood maps."""
    per_level: NDArray[np.float64]
    """(n,) log-likelihood of each level in nats, the coarsest level first."""
    statistics: NDArray[np.float64] | None = None
    """Statistics of the latents of an existing target (`latents.statistics_of`). None for a sample, whose latents are
    the noise that was drawn."""

    @property
    def has_finite_likelihood(self) -> bool:
        """Whether the log-likelihoods of all levels are finite."""
        return bool(np.isfinite(self.per_level).all())


@dataclass(frozen=True)
class TileResult:
    """The part of an item that one window contributes."""

    image: int
    sample: int
    window: Tile
    pixels: Pixels | None
    """Pixels of the window; None for an existing target."""
    maps: list[NDArray[np.float32]]
    """Log-likelihood maps of all levels, the coarsest first: from the graphs decode and reverse, or from forward and
    likelihood. The map of the dequantization comes last, if there is one."""
    latents: list[NDArray[np.float32]]
    """z of each level of an existing target, the coarsest first: (channels, h, w). Empty for a sample."""


class TileMerger:
    """The items that are not finished yet."""

    def __init__(self, model: Model, conditions: Sequence[Image], windows: Sequence[list[Tile]]) -> None:
        """Start without any finished window.

        Arguments:
            windows: windows of the target of each condition.
        """
        self.model = model
        self.conditions = conditions
        self.windows = windows
        self._canvases: dict[tuple[int, int], TileCanvas] = {}
        self._sums: dict[tuple[int, int], list[BlockSums]] = {}

    def add(self, result: TileResult) -> BatchItem | None:
        """Add the result of a tile to its item. Return the item if this was its last tile, else None."""
        key, scale = (result.image, result.sample), self.model.scale
        if key not in self._canvases:
            height, width = self.conditions[result.image].shape[:2]
            self._canvases[key] = TileCanvas(scale * height, scale * width)
        canvas, windows = self._canvases[key], self.windows[result.image]
        is_merged = result.pixels is not None and (len(windows) > 1 or windows[0].drawn is not None)
        canvas.add(result.window, result.pixels.floats() if result.pixels and is_merged else None, result.maps)
        self._add_latents(key, result)
        if canvas.windows < len(windows):
            return None
        del self._canvases[key]
        sums = self._sums.pop(key, None)
        merged = canvas.pixels
        pixels = (
            result.pixels
            if merged is None
            else HostPixels(completed(merged, self.conditions[result.image], self.model))
        )
        inside = pixels and pixels.cropped(canvas.height, canvas.width)
        nats = log_likelihood_per_level(canvas.maps, self.model.levels)
        return BatchItem(*key, inside, canvas.maps, nats, statistics_of(sums) if sums else None)

    def _add_latents(self, key: tuple[int, int], result: TileResult) -> None:
        blocks = zip(result.latents, self.model.noise_channels, strict=bool(result.latents))
        sums = [block for z, channels in blocks for block in sums_of(z, channels, result.window)]
        if key in self._sums:
            sums = [before + more for before, more in zip(self._sums[key], sums, strict=True)]
        if sums:
            self._sums[key] = sums
