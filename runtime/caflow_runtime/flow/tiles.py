"""Cutting an image into windows of limited size, and merging them again.

Padding, tiles and the cropping of likelihoods use one mechanism: each window has a weight for each of its rows and
columns. The weights of a pixel, summed over all windows, are 1 inside the image and 0 in the padding. Pixels, and
maps of any resolution, are added with these weights. An image that needs neither padding nor tiles is a single window
whose weights are all 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from caflow_runtime.flow.log_likelihood_maps import LogLikelihoodMaps
from caflow_runtime.option_fields import Options

Floats = NDArray[np.float32]
WINDOW = 128
"""Largest side of a window, in pixels of the condition; a larger `multiple` makes it larger."""
MAX_WINDOWS = 4
"""Largest number of windows on each axis."""
BLOCK = 8
"""Windows begin at multiples of this: in JPEG files these are the borders of blocks."""


class Tiling(Options, frozen=True):
    """How much is computed at once, and how larger images are cut."""

    pixel_budget: Annotated[int, Meta(ge=1, le=2**62)] = 2**20
    """Largest number of target pixels of all items in one run of the graphs. This limits memory: small models take
    about 300 bytes per pixel. Larger images are cut into tiles. Results, and the float32 pixels of unfinished tiled
    images, take additional memory."""
    overlap: Annotated[int, Meta(ge=0, le=2**62)] = 64
    """Overlap of tiles, in target pixels. From 16 on, steps across their borders are as large as elsewhere."""


@dataclass(frozen=True)
class TileAxis:
    """Range of a window along one axis of the padded target."""

    start: int
    """First pixel; a multiple of the size multiple."""
    weights: Floats
    """(length,); 0 in the padding, linear where windows overlap."""

    @property
    def length(self) -> int:
        """Length in target pixels."""
        return len(self.weights)

    @property
    def end(self) -> int:
        """One past the last pixel."""
        return self.start + self.length


@dataclass(frozen=True)
class Tile:
    """A rectangle of the padded target."""

    y: TileAxis
    x: TileAxis
    drawn: NDArray[np.bool_] | None = None
    """(height, width) bool, the pixels that the model draws. Only these count for likelihoods. None if it draws all."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in target pixels."""
        return self.y.length, self.x.length


class TooSmall(ValueError):
    """The largest allowed windows are too small for the requested overlap."""


def cut(
    height: int, width: int, multiple: int, pixel_budget: int, overlap: int, largest: tuple[int, int] | None = None
) -> list[Tile]:
    """Return windows that cover a target of height × width.

    All windows have the same shape, with at most `pixel_budget` pixels.

    Arguments:
        multiple: sides and positions of windows are multiples of this.
        overlap: minimum overlap of neighbouring windows, in pixels.
        largest: maximum height and width of a window.

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
                f"tiles of at most {sides[1]}×{sides[0]} pixels are too small for an overlap of {overlap} pixels on "
                "both sides"
            )
    rows = _cut_axis(height, padded[0], sides[0], multiple, overlap)
    columns = _cut_axis(width, padded[1], sides[1], multiple, overlap)
    return [Tile(y, x) for y in rows for x in columns]


class TileCanvas:
    """The pixels and maps of one image, merged from windows."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.windows = 0
        """Number of windows added so far."""
        self.pixels: Floats | None = None
        """(height, width, 3) float32 pixel values."""
        self.maps: LogLikelihoodMaps = []
        """Log-likelihood maps inside the image; at the border, a cell has only the part that lies inside."""

    def add(self, window: Tile, pixels: Floats | None, maps: Sequence[Floats]) -> None:
        """Add the pixels (h, w, 3) of a window, and its maps, each a map (h / cell, w / cell) of square cells."""
        self.windows += 1
        if pixels is not None:
            self._add_pixels(window, pixels)
        cells = [window.y.length // one_map.shape[0] for one_map in maps]
        if not self.maps:
            self.maps = [(c, np.zeros((-(-self.height // c), -(-self.width // c)))) for c in cells]
        for (cell, whole), one_map in zip(self.maps, maps, strict=True):
            top, left = window.y.start // cell, window.x.start // cell
            part = whole[top : top + one_map.shape[0], left : left + one_map.shape[1]]
            part += weighted(window, one_map, cell)[: part.shape[0], : part.shape[1]]

    def _add_pixels(self, window: Tile, pixels: Floats) -> None:
        inside = pixels[: self.height - window.y.start, : self.width - window.x.start]
        if inside.shape[:2] == (self.height, self.width):
            self.pixels = inside
            return
        if self.pixels is None:
            self.pixels = np.zeros((self.height, self.width, pixels.shape[2]), np.float32)
        weights = np.outer(window.y.weights, window.x.weights)[: inside.shape[0], : inside.shape[1], None]
        self.pixels[window.y.start : window.y.end, window.x.start : window.x.end] += weights * inside


def weighted(window: Tile, maps: NDArray[np.float32], cell: int) -> NDArray[np.float64]:
    """Return the maps (…, h, w) of a window, multiplied by the mean weight of each cell.

    The result is the part that the window adds to the maps of the whole image. Where the model draws only a part of the
    pixels, a cell counts by its fraction of them.
    """
    rows: NDArray[np.float64] = window.y.weights.reshape(-1, cell).mean(1, dtype=np.float64)
    columns: NDArray[np.float64] = window.x.weights.reshape(-1, cell).mean(1, dtype=np.float64)
    weights = np.outer(rows, columns)
    if window.drawn is not None:
        weights *= window.drawn.reshape(len(rows), cell, len(columns), cell).mean((1, 3))
    with np.errstate(invalid="ignore"):  # a map with infinite values is not finite, whatever their weights
        return maps * weights


def pad(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Pad (h, w, 3) to (height, width, 3), below and on the right.

    Padding is by reflection, or repeats the edge if the image is too small for reflection.
    """
    for axis, side in enumerate((height, width)):
        amount = side - image.shape[axis]
        widths = [(0, 0)] * image.ndim
        widths[axis] = (0, amount)
        if amount:
            image = np.pad(image, widths, mode="reflect" if amount < image.shape[axis] else "edge")
    return image


def _window_sides(height: int, width: int, multiple: int, budget: int) -> tuple[int, int]:
    """Return the height and width of the largest windows within the budget, as square as the image allows."""
    if height * width <= budget:
        return height, width
    side = max(multiple, int(budget**0.5) // multiple * multiple)
    if width < height:
        tall, wide = _window_sides(width, height, multiple, budget)
        return wide, tall
    tall = min(height, side)
    return tall, min(width, max(multiple, budget // tall // multiple * multiple))


def _cut_axis(length: int, padded: int, side: int, multiple: int, overlap: int) -> list[TileAxis]:
    """Return evenly spaced windows along one axis, all of one length of at most `side`."""
    count = 1 if side >= padded else -(-(padded - overlap) // (side - overlap))
    # Shrink the windows as far as this count allows, so that an image slightly over the budget costs only slightly
    # more.
    side = min(side, -(-(padded + (count - 1) * overlap) // (count * multiple)) * multiple)
    last = (padded - side) // multiple
    starts = [multiple * (k * last // max(1, count - 1)) for k in range(count)]
    places = np.arange(padded) + 0.5
    edges = [(before + side + after) / 2 for before, after in pairwise(starts)]
    # Weights are linear over the middle half of the overlap. At its very edge a window lacks context, so its weight is
    # 0 there.
    rises = [np.clip((places - edge) / max(1, overlap / 2) + 0.5, 0, 1) for edge in edges]
    whole = [np.ones(padded), *rises, np.zeros(padded)]
    inside = places < length
    return [
        TileAxis(start, ((whole[k] - whole[k + 1]) * inside)[start : start + side].astype(np.float32))
        for k, start in enumerate(starts)
    ]


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
