"""Log-likelihood maps of an image: what each cell contributes to its log-likelihood."""

import numpy as np
from numpy.typing import NDArray

LogLikelihoodMaps = list[tuple[int, NDArray[np.float64]]]
"""Log-likelihood maps of one image: pairs of the side of a cell, in pixels, and a map (h, w) in nats per cell."""


def maps_per_level(maps: LogLikelihoodMaps, levels: int) -> list[LogLikelihoodMaps]:
    """Return the maps of each level: two maps for each, and all remaining maps for the finest level."""
    return [maps[2 * j : 2 * j + 2] if j < levels - 1 else maps[2 * j :] for j in range(levels)]


def log_likelihood_per_level(maps: LogLikelihoodMaps, levels: int) -> NDArray[np.float64]:
    """Return log p(target | condition) of each level, (levels,) in nats: the sum over its maps of the whole image."""
    return np.array([sum(float(one_map.sum()) for _, one_map in level) for level in maps_per_level(maps, levels)])


def map_per_pixel(maps: LogLikelihoodMaps, height: int, width: int) -> NDArray[np.float32]:
    """Return the maps of one image in nats per pixel, (height, width) float32.

    Each cell is spread evenly over its pixels.
    """
    total = np.zeros((height, width))
    for cell, one_map in maps:
        rows, columns = (_pixels_per_cell(side, cell) for side in (height, width))
        spread = one_map / np.outer(rows, columns)
        total += np.repeat(np.repeat(spread, rows, 0), columns, 1)
    return total.astype(np.float32)


def _pixels_per_cell(side: int, cell: int) -> NDArray[np.int64]:
    """Return the number of image pixels of each cell along one axis. The last cell may lie partly in the padding."""
    counts = np.full(-(-side // cell), cell)
    counts[-1] -= cell * len(counts) - side
    return counts
