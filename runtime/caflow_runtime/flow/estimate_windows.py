"""Windows from which it is estimated how a whole condition was degraded, for models that are told of it.

The graph `estimate` looks at windows of the condition, and their estimates are averaged. So all tiles of an image are
told the same, and the time and the memory of the estimate are limited for images of any size.
"""

from itertools import product

import numpy as np
from numpy.typing import NDArray

WINDOW = 128
"""Largest side of a window, in pixels of the condition; a larger `multiple` makes it larger."""
MAX_WINDOWS = 4
"""Largest number of windows on each axis."""
BLOCK = 8
"""Windows begin at multiples of this: in JPEG files these are the borders of blocks."""


def estimate_windows(
    condition: NDArray[np.uint8], multiple: int, largest: tuple[int, int] = (WINDOW, WINDOW)
) -> list[NDArray[np.uint8]]:
    """Return the windows of a condition that the graph `estimate` looks at, each (1, h, w, 3) and contiguous.

    Arguments:
        condition: (h, w, 3) uint8 RGB, with sides that are multiples of `multiple`.
        largest: largest height and width that the graph accepts, if they are smaller than `WINDOW`.
    """
    axes = [_starts(side, multiple, most) for side, most in zip(condition.shape[:2], largest, strict=True)]
    (height, width) = (length for _, length in axes)
    return [
        np.ascontiguousarray(condition[None, y : y + height, x : x + width])
        for y, x in product(*(starts for starts, _ in axes))
    ]


def _starts(side: int, multiple: int, most: int) -> tuple[list[int], int]:
    """Return where the windows of one axis begin, and their length."""
    length = min(side, -(-min(most, WINDOW) // multiple) * multiple)
    count = min(MAX_WINDOWS, -(-side // length))
    step = (side - length) / max(1, count - 1)
    return [int(k * step) // BLOCK * BLOCK for k in range(count)], length
