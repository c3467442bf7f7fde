"""What parts of an image add to its log-likelihood."""

import numpy as np
from numpy.typing import NDArray

Shares = list[tuple[int, NDArray[np.float64]]]
"""Of one image: pairs of a cell's side in pixels, and nats per cell, (h, w)."""


def shares_per_level(shares: Shares, levels: int) -> list[Shares]:
    """The shares of each level: two maps for each, and whatever is left for the finest."""
    return [shares[2 * j : 2 * j + 2] if j < levels - 1 else shares[2 * j :] for j in range(levels)]


def share_map(shares: Shares, height: int, width: int) -> NDArray[np.float32]:
    """Shares of one image as nats per pixel, (height, width): each cell spread evenly over its pixels."""
    total = np.zeros((height, width))
    for cell, share in shares:
        rows, columns = (_pixels_per_cell(side, cell) for side in (height, width))
        spread = share / np.outer(rows, columns)
        total += np.repeat(np.repeat(spread, rows, 0), columns, 1)
    return total.astype(np.float32)


def _pixels_per_cell(side: int, cell: int) -> NDArray[np.int64]:
    """Cells at the border may lie partly in the padding, which has no share."""
    counts = np.full(-(-side // cell), cell)
    counts[-1] -= cell * len(counts) - side
    return counts
