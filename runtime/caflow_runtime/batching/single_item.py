"""Runs of a single item, from a target to its noise and from noise to its target."""

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.batching import batch_arrays
from caflow_runtime.batching.batch_size import TileBatch
from caflow_runtime.batching.runner import Runner
from caflow_runtime.batching.tile_merging import BatchItem, TileMerger, TileResult
from caflow_runtime.bundle.known_values import with_known
from caflow_runtime.bundle.manifest import cell_side
from caflow_runtime.errors import InputError
from caflow_runtime.flow import level_chain
from caflow_runtime.flow.level_chain import Arrays
from caflow_runtime.image_arrays import Image

LevelNoises = list[NDArray[np.float32]]
"""z of each level, the coarsest first: (R, channels, h, w). The channels contain the blocks z[i, j] for i = j … n−1, in
this order."""


def encode_target(runner: Runner, target: Image, condition: Image) -> tuple[LevelNoises, BatchItem]:
    """Return the noise of a target, an array (1, channels, h, w) for each level, and the item with its likelihood.

    Raises:
        InputError: if the image requires more than one tile.
    """
    units, encoded = _encoded(runner, condition)
    whole = batch_arrays.padded(with_known(target, condition, runner.model), runner.model, 1)
    run = batch_arrays.score(runner.graphs, units, [whole], encoded)
    item = _only_item(runner, condition, batch_arrays.results_of_targets(runner.graphs, units, run))
    return [runner.backend.to_host(z) for z in run.noise], item


def decode_noise(runner: Runner, noise: LevelNoises, condition: Image) -> BatchItem:
    """Return the item whose pixels this noise produces.

    Raises:
        InputError: if the image requires more than one tile, or the noise has a wrong shape.
    """
    units, encoded = _encoded(runner, condition)
    wanted = [
        (1, sum(channels), *(side // cell_side(runner.model, f"decode_{j}") for side in units[0].window.shape))
        for j, channels in enumerate(runner.model.noise_channels)
    ]
    if [z.shape for z in noise] != wanted:
        raise InputError(f"noise: expected arrays of shapes {wanted}; got {[z.shape for z in noise]}")
    image, given = batch_arrays.owners(runner.graphs, units), [runner.backend.to_device(z) for z in noise]
    run = level_chain.sample(runner.graphs, runner.model.levels, encoded, image, given)
    return _only_item(runner, condition, batch_arrays.results_of_samples(runner.graphs, units, run, stays=False))


def _encoded(runner: Runner, condition: Image) -> tuple[list[TileBatch], Arrays]:
    """Return the batch of a single item, and the encoding of its condition.

    Raises:
        InputError: if the image requires more than one tile.
    """
    windows, padded = runner.windows(condition), batch_arrays.padded(condition, runner.model, runner.model.scale)
    if len(windows) > 1 or windows[0].shape != tuple(runner.model.scale * side for side in padded.shape[:2]):
        height, width = (runner.model.scale * side for side in padded.shape[:2])
        raise InputError(
            f"the noise belongs to the whole image, so its {width}×{height} pixels must run as one tile: use "
            f"{runner.limits().remedy(1, height, width)}"
        )
    units = [TileBatch(0, windows[0], (0,))]
    return units, batch_arrays.encode(runner.graphs, units, [padded], runner.degradations([padded]))


def _only_item(runner: Runner, condition: Image, results: list[TileResult]) -> BatchItem:
    (result,) = results
    item = TileMerger(runner.model, [condition], [[result.window]]).add(result)
    assert item is not None
    return item
