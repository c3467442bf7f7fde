"""One batch of tiles: its inputs on the device, and its results."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.batching.batch_size import TileBatch
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.batching.pixels import DevicePixels, HostPixels, Pixels
from caflow_runtime.batching.tile_merging import TileResult
from caflow_runtime.bundle.bundle_errors import WrongShape
from caflow_runtime.bundle.manifest import Model, cell_side
from caflow_runtime.flow import level_chain
from caflow_runtime.flow.level_chain import Array, Arrays
from caflow_runtime.flow.noise import DrawNoise, LevelNoise, NoiseWindow
from caflow_runtime.flow.tiles import Tile, pad
from caflow_runtime.image_arrays import Image


def padded(image: Image, model: Model, scale: int) -> Image:
    """Return an image padded so that the sides of its target are multiples of the size multiple.

    Arguments:
        scale: side of the target divided by the side of the image.
    """
    multiple = model.size_multiple // scale
    height, width = (-(-side // multiple) * multiple for side in image.shape[:2])
    return pad(image, height, width)


def owners(graphs: Graphs, units: list[TileBatch]) -> Array:
    """Return the index of the unit of each item, as a device array."""
    return graphs.backend.to_device(np.repeat(np.arange(len(units)), [len(unit.samples) for unit in units]))


def tiles_of(units: list[TileBatch]) -> list[tuple[int, int, int]]:
    """Return image and position of each unit's tile. Batches with equal tiles array the encoding of the conditions."""
    return [(unit.image, unit.window.y.start, unit.window.x.start) for unit in units]


def encode(
    graphs: Graphs, units: list[TileBatch], conditions: list[Image], degradations: NDArray[np.float32] | None
) -> dict[str, Array]:
    """Run the graph that depends on the condition only, once for each unit.

    Arguments:
        conditions: padded conditions.
        degradations: (images, 13) degradation of each whole image; None if the model is not told of it.

    Returns:
        Outputs of the graph by name, on the device.
    """
    scale, backend = graphs.manifest.model.scale, graphs.backend
    windows = np.stack([_window_of(conditions[unit.image], unit.window, scale) for unit in units])
    arrays = {"condition": backend.to_device(windows)}
    if degradations is not None:
        arrays["degradation"] = backend.to_device(degradations[[unit.image for unit in units]])
    return graphs["encode"](arrays)


def draw_noise(
    graphs: Graphs, units: list[TileBatch], config: DrawOptions, draw_level: DrawNoise | None = None
) -> list[Array]:
    """Draw the noise z of each level, the coarsest first, for all items of the units.

    Arguments:
        draw_level: function that draws the noise of one level; by default the backend's.
    """
    model, drawn = graphs.manifest.model, []
    temperatures = tuple(config.temperatures(model.levels))
    for j, channels in enumerate(model.noise_channels):
        places = tuple(_place(unit, cell_side(model, f"decode_{j}")) for unit in units)
        taus = temperatures[j : j + len(channels)]
        z = LevelNoise(tuple(channels), j, places, taus, config.seed, config.frame)
        drawn.append((draw_level or graphs.backend.draw_noise)(z))
    return drawn


def score(graphs: Graphs, units: list[TileBatch], targets: list[Image], encoded: Arrays) -> level_chain.ChainResult:
    """Compute the likelihoods and the latents of existing targets.

    Arguments:
        targets: padded targets.
        encoded: outputs of `encode`.
    """
    levels, backend, image = graphs.manifest.model.levels, graphs.backend, owners(graphs, units)
    integers = np.stack([_window_of(targets[unit.image], unit.window, 1) for unit in units])
    if "dequantize" not in graphs:
        return level_chain.score(graphs, levels, encoded, image, backend.to_device(integers + np.float32(0.5)))
    out = graphs["dequantize"]({"integers": backend.to_device(integers)})
    items = level_chain.score(graphs, levels, encoded, image, out["pixels"])
    items.maps[-1].append(out["log_likelihood_map"])
    return items


def results_of_samples(
    graphs: Graphs, units: list[TileBatch], run: level_chain.ChainResult, stays: bool
) -> list[TileResult]:
    """Return drawn samples with their pixels.

    Arguments:
        stays: whether pixels stay on the device, if the backend can find values there that are not finite.
    """
    pixels: list[Pixels]
    if stays and graphs.backend.finds_not_finite:
        finite = graphs.backend.are_finite(run.pixels)
        pixels = [DevicePixels(graphs, run.pixels, r, bool(judged)) for r, judged in enumerate(finite)]
    else:
        pixels = [HostPixels(values) for values in graphs.backend.to_host(run.pixels)]
    return _results(graphs, units, run, pixels, [])


def results_of_targets(graphs: Graphs, units: list[TileBatch], run: level_chain.ChainResult) -> list[TileResult]:
    """Return existing targets with their latents."""
    return _results(graphs, units, run, [None] * len(units), [graphs.backend.to_host(z) for z in run.noise])


def map_on_host(graphs: Graphs, array: Array, window: Tile) -> NDArray[np.float32]:
    """Return log-likelihood maps on the host, (R, h, w) in nats.

    Raises:
        WrongShape: if the cells of the map are not square, or do not fit the window.
    """
    found = graphs.backend.to_host(array)
    (height, width), (rows, columns) = window.shape, found.shape[1:]
    cell = height // rows
    if (cell * rows, cell * columns) != (height, width):
        raise WrongShape(
            f"{graphs.folder}: log-likelihood maps must have square cells and fit targets of {width}×{height} "
            f"pixels; got {columns}×{rows} cells: export the model again"
        )
    return found


def _results(
    graphs: Graphs,
    units: list[TileBatch],
    run: level_chain.ChainResult,
    pixels: Sequence[Pixels | None],
    latents: list[NDArray[Any]],
) -> list[TileResult]:
    pairs = [(unit, sample) for unit in units for sample in unit.samples]
    kept = range(len(pairs)) if run.kept is None else run.kept
    maps = [map_on_host(graphs, array, units[0].window) for level in run.maps for array in level]
    return [
        TileResult(unit.image, sample, unit.window, pixels[r], [one[r] for one in maps], [z[r] for z in latents])
        for r, (unit, sample) in enumerate(pairs[index] for index in kept)
    ]


def _place(unit: TileBatch, cell: int) -> NoiseWindow:
    """Return the place of a unit's noise on a level. `cell` is the side of the level's positions in target pixels."""
    y, x = unit.window.y, unit.window.x
    return NoiseWindow(y.start // cell, x.start // cell, y.length // cell, x.length // cell, unit.samples)


def _window_of(padded: Image, window: Tile, scale: int) -> Image:
    """Return a window of an image whose target is `scale` times as large."""
    rows, columns = (slice(axis.start // scale, axis.end // scale) for axis in (window.y, window.x))
    return padded[rows, columns]
