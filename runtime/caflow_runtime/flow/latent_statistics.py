"""Statistics of the latents of scored images. They can reveal unusual images whose likelihood is usual.

If an image had been drawn by the model, its latents z would be independent and standard normal. Deviations from that,
block by block, reveal images that are blurred, compressed or made by another method (Zhang et al., "Out-of-distribution
detection with distance guarantee", arXiv 2002.03328, use this idea for unconditional flows).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.flow.tiles import Tile, weighted

STATISTICS = (
    "mean",
    "mean square",
    "fourth moment",
    "correlation to the right",
    "correlation downwards",
    "correlation of channels",
)
"""Statistics of one block: the means of z, z² and z⁴; the means of z times its right and its lower neighbour; and the
root mean square of the mean products of two different channels."""
MEAN_SQUARE, TO_THE_RIGHT, DOWNWARDS = 1, 3, 4
"""Indices in `STATISTICS`."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BlockSums:
    """Weighted sums over the cells of a block z[i, j], from which the statistics of an image are computed.

    Windows overlap, so each cell counts with the weight of its window. Cells in the padding have weight 0. The sums of
    all windows of an image are added.
    """

    weight: float
    """Sum of the weights of the cells."""
    powers: Floats
    """(3,) sums of z, z² and z⁴ over all channels."""
    pair_weights: Floats
    """(2,) sums of the weights of pairs, to the right and down. The weight of a pair is the product of both cells'
    weights."""
    pairs: Floats
    """(2,) sums of the products of the pairs, over all channels."""
    products: Floats
    """(C, C) sums of the products of every two channels."""

    def __add__(self, other: "BlockSums") -> "BlockSums":
        return BlockSums(
            self.weight + other.weight,
            self.powers + other.powers,
            self.pair_weights + other.pair_weights,
            self.pairs + other.pairs,
            self.products + other.products,
        )

    @property
    def statistics(self) -> Floats:
        """(6,) values of `STATISTICS`."""
        channels = len(self.products)
        pairs = np.divide(self.pairs, channels * self.pair_weights, out=np.zeros(2), where=self.pair_weights > 0)
        variances = np.diagonal(self.products)
        squares = float(np.vdot(self.products, self.products) - np.vdot(variances, variances))
        cross = np.sqrt(max(0.0, squares) / max(1, channels * (channels - 1))) / self.weight
        return np.array([*self.powers / (channels * self.weight), *pairs, cross])


def sums_of(z: NDArray[np.float32], channels: Sequence[int], window: Tile) -> list[BlockSums]:
    """Return the sums of each block of one level.

    Arguments:
        z: (sum of `channels`, h, w), blocks concatenated along the channels.
        channels: number of channels of each block.
    """
    cell = window.y.length // z.shape[1]
    weights = weighted(window, np.ones(z.shape[1:], np.float32), cell)
    ends = np.cumsum(channels)
    return [_sums(z[end - count : end].astype(np.float64), weights) for count, end in zip(channels, ends, strict=True)]


def statistics_of(blocks: Sequence[BlockSums]) -> Floats:
    """Return (6 · blocks,) statistics of a whole image: all blocks of level 0, then of level 1, and so on."""
    return np.concatenate([block.statistics for block in blocks])


def name_of(number: int, values: int, levels: int) -> str:
    """Return the name, for people, of one of the values of `statistics_of`.

    Arguments:
        number: index of the value.
        values: number of all values. It tells whether a model has blocks z[i, j] for all i ≥ j, or, as one with
            DUAL-GLOW's dependencies, for i = j only.
    """
    has_cross_blocks = values > len(STATISTICS) * levels
    blocks = [(i, j) for j in range(levels) for i in range(j, levels if has_cross_blocks else j + 1)]
    block, statistic = divmod(number, len(STATISTICS))
    i, j = blocks[block]
    return f"{STATISTICS[statistic]} of z[{i}, {j}]"


def _sums(z: Floats, weights: Floats) -> BlockSums:
    """Compute the sums in few array operations, because their overhead dominates for small images."""
    channels = z.reshape(len(z), -1)
    weighted_z = channels * weights.ravel()
    weighted_squares = weighted_z * channels
    fourth = np.vdot(weighted_squares, channels * channels)
    sides = [
        (weights[:, 1:] * weights[:, :-1], (z[:, :, 1:] * z[:, :, :-1]).sum(0)),
        (weights[1:] * weights[:-1], (z[:, 1:] * z[:, :-1]).sum(0)),
    ]
    return BlockSums(
        float(weights.sum()),
        np.array([weighted_z.sum(), weighted_squares.sum(), fourth]),
        np.array([pair_weights.sum() for pair_weights, _ in sides]),
        np.array([np.vdot(pair_weights, products) for pair_weights, products in sides]),
        weighted_z @ channels.T,
    )
