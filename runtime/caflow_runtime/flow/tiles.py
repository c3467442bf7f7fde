"""How an image is cut into windows of a bounded size, and put together again.

One mechanism does padding, tiles and the cropping of likelihoods: every window has a weight for each of its rows and
columns. Over all windows the weights of a pixel are one inside the image and none in the padding; pixels, and shares at
any resolution, are added with them. An image that needs neither is one window of ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.flow.shares import Shares

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Axis:
    """A window along one axis of the padded target."""

    start: int
    """A multiple of the size multiple."""
    weights: Floats
    """(length,); 0 in the padding, linear where windows overlap."""

    @property
    def length(self) -> int:
        """In target pixels."""
        return len(self.weights)

    @property
    def end(self) -> int:
        """One past the last pixel."""
        return self.start + self.length


@dataclass(frozen=True)
class Window:
    """A rectangle of the padded target."""

    y: Axis
    x: Axis

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in target pixels."""
        return self.y.length, self.x.length


class TooSmall(ValueError):
    """The largest windows allowed are no larger than the overlap asked for."""


def cut(
    height: int, width: int, multiple: int, pixel_budget: int, overlap: int, largest: tuple[int, int] | None = None
) -> list[Window]:
    """Windows of at most `pixel_budget` pixels that cover a target of height × width, all of one shape.

    Arguments:
        multiple: sides and places of windows are multiples of this.
        overlap: of neighbours, at least this many pixels.
        largest: height and width that no window may be larger than.

    Raises:
        TooSmall
    """
    padded = [-(-side // multiple) * multiple for side in (height, width)]
    bounded = padded if largest is None else [min(pair) for pair in zip(padded, largest, strict=True)]
    sides = _window_sides(bounded[0], bounded[1], multiple, pixel_budget)
    overlap = -(-overlap // multiple) * multiple
    for side, whole in zip(sides, padded, strict=True):
        if side < whole and side <= 2 * overlap:
            raise TooSmall(
                f"tiles can be no larger than {sides[0]}×{sides[1]} pixels, which with an overlap of {overlap} on both "
                f"sides are nothing but overlap"
            )
    rows = _cut_axis(height, padded[0], sides[0], multiple, overlap)
    columns = _cut_axis(width, padded[1], sides[1], multiple, overlap)
    return [Window(y, x) for y in rows for x in columns]


class Canvas:
    """An image's pixels and shares, put together from windows."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.windows = 0
        """That were added."""
        self.pixels: Floats | None = None
        """(height, width, 3) float32 pixel values."""
        self.shares: Shares = []
        """Cropped: a cell at the border holds only what of it lies in the image."""

    def add(self, window: Window, pixels: Floats | None, shares: Sequence[Floats]) -> None:
        """Add a window's pixels, (h, w, 3), and its shares, (h / cell, w / cell) each for the side of its cells."""
        self.windows += 1
        if pixels is not None:
            self._add_pixels(window, pixels)
        cells = [window.y.length // share.shape[0] for share in shares]
        if not self.shares:
            self.shares = [(c, np.zeros((-(-self.height // c), -(-self.width // c)))) for c in cells]
        for (cell, whole), share in zip(self.shares, shares, strict=True):
            top, left = window.y.start // cell, window.x.start // cell
            part = whole[top : top + share.shape[0], left : left + share.shape[1]]
            part += weighted(window, share, cell)[: part.shape[0], : part.shape[1]]

    def _add_pixels(self, window: Window, pixels: Floats) -> None:
        inside = pixels[: self.height - window.y.start, : self.width - window.x.start]
        if inside.shape[:2] == (self.height, self.width):
            self.pixels = inside
            return
        if self.pixels is None:
            self.pixels = np.zeros((self.height, self.width, pixels.shape[2]), np.float32)
        weights = np.outer(window.y.weights, window.x.weights)[: inside.shape[0], : inside.shape[1], None]
        self.pixels[window.y.start : window.y.end, window.x.start : window.x.end] += weights * inside


def weighted(window: Window, shares: NDArray[np.float32], cell: int) -> NDArray[np.float64]:
    """Shares of a window, (…, h, w), by the mean weight of each cell: what they add to the whole image's."""
    rows: NDArray[np.float64] = window.y.weights.reshape(-1, cell).mean(1, dtype=np.float64)
    columns: NDArray[np.float64] = window.x.weights.reshape(-1, cell).mean(1, dtype=np.float64)
    return shares * np.outer(rows, columns)


def pad(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """(h, w, 3) to (height, width, 3), below and on the right: by reflection, or by the edge if there is too little."""
    for axis, side in enumerate((height, width)):
        amount = side - image.shape[axis]
        widths = [(0, 0)] * image.ndim
        widths[axis] = (0, amount)
        if amount:
            image = np.pad(image, widths, mode="reflect" if amount < image.shape[axis] else "edge")
    return image


def _window_sides(height: int, width: int, multiple: int, budget: int) -> tuple[int, int]:
    """As square as the image allows."""
    if height * width <= budget:
        return height, width
    side = max(multiple, int(budget**0.5) // multiple * multiple)
    if width < height:
        tall, wide = _window_sides(width, height, multiple, budget)
        return wide, tall
    tall = min(height, side)
    return tall, min(width, max(multiple, budget // tall // multiple * multiple))


def _cut_axis(length: int, padded: int, side: int, multiple: int, overlap: int) -> list[Axis]:
    """Windows of one side, at most `side`, along an axis, evenly spread."""
    count = 1 if side >= padded else -(-(padded - overlap) // (side - overlap))
    # No larger than so many windows must be: an image a little over the budget costs little more.
    side = min(side, -(-(padded + (count - 1) * overlap) // (count * multiple)) * multiple)
    last = (padded - side) // multiple
    starts = [multiple * (k * last // max(1, count - 1)) for k in range(count)]
    places = np.arange(padded) + 0.5
    edges = [(before + side + after) / 2 for before, after in pairwise(starts)]
    # Linear over half of the overlap, in its middle: at its very edge a window has seen the least.
    rises = [np.clip((places - edge) / max(1, overlap / 2) + 0.5, 0, 1) for edge in edges]
    whole = [np.ones(padded), *rises, np.zeros(padded)]
    inside = places < length
    return [
        Axis(start, ((whole[k] - whole[k + 1]) * inside)[start : start + side].astype(np.float32))
        for k, start in enumerate(starts)
    ]
