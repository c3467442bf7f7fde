"""Statistics of the latents of given images, which say more than their likelihood.

Were an image drawn by the model, its latents z would be independent and standard normal. How far they are from that,
block by block, tells what is blurred, coded or made by something else, also where the likelihood is usual (Zhang et
al., "Out-of-distribution detection with distance guarantee", arXiv 2002.03328, use the same idea for unconditional
flows).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.flow.tiles import Window, weighted

STATISTICS = ("mean", "energy", "fourth", "right", "down", "cross")
"""Of one block: the means of z, z² and z⁴; of z times its neighbour's, to the right and below; and the root mean square
of the products of two channels."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BlockSums:
    """Of the cells of a block z[i, j], each by its weight: what a statistic of a whole image is made from.

    Windows overlap, so a cell counts in each of them by that window's share of it, and in the padding by nothing.
    """

    weight: float
    powers: Floats
    """(3,) of z, z² and z⁴, over all channels."""
    pair_weights: Floats
    """(2,) of pairs to the right, and below: the product of both cells' weights."""
    pairs: Floats
    """(2,) of their products, over all channels."""
    products: Floats
    """(C, C) of every two channels."""

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
        """(6,) `STATISTICS`."""
        channels = len(self.products)
        pairs = np.divide(self.pairs, channels * self.pair_weights, out=np.zeros(2), where=self.pair_weights > 0)
        variances = np.diagonal(self.products)
        squares = float(np.vdot(self.products, self.products) - np.vdot(variances, variances))
        cross = np.sqrt(max(0.0, squares) / max(1, channels * (channels - 1))) / self.weight
        return np.array([*self.powers / (channels * self.weight), *pairs, cross])


def sums_of(z: NDArray[np.float32], channels: Sequence[int], window: Window) -> list[BlockSums]:
    """Of each block of one level.

    Arguments:
        z: (sum of `channels`, h, w), the blocks side by side.
        channels: of each block.
    """
    cell = window.y.length // z.shape[1]
    weights = weighted(window, np.ones(z.shape[1:], np.float32), cell)
    ends = np.cumsum(channels)
    return [_sums(z[end - count : end].astype(np.float64), weights) for count, end in zip(channels, ends, strict=True)]


def statistics_of(blocks: Sequence[BlockSums]) -> Floats:
    """(6 · blocks,) of a whole image, from all blocks of level 0, then of level 1, and so on."""
    return np.concatenate([block.statistics for block in blocks])


def names_of(levels: int) -> list[str]:
    """What each of `statistics_of` is, for people."""
    blocks = [(i, j) for j in range(levels) for i in range(j, levels)]
    return [f"{name} of z[{i}, {j}]" for i, j in blocks for name in STATISTICS]


def _sums(z: Floats, weights: Floats) -> BlockSums:
    """In few passes, as small images have little else to do."""
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
