"""Colour hints: their propagation over an image, which a colorization model refines.

The method is that of Levin, Lischinski and Weiss, "Colorization using Optimization", 2004: neighbours of similar luma
have similar chroma. It is a sparse system of linear equations, which requires SciPy, the extra `colorize`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.checks import check_integer
from caflow_runtime.completion.color_space import GREY
from caflow_runtime.errors import InputError
from caflow_runtime.extras import import_optional
from caflow_runtime.image_arrays import Image

NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
SIMILARITY = 0.1
"""Variance of the luma of similar pixels, as a share of its variance in the neighbourhood."""
MAX_PIXELS = 2**18
"""Largest image whose equations are solved, which takes some seconds and a gigabyte. Larger ones are halved first."""
SMALLEST_VARIANCE = 2e-6
"""Smallest variance of luma, on the scale of 0…1, below which neighbours count as equal."""
PULL_TO_GREY = 1e-9
"""Weight with which pixels become grey where the equations have no single solution."""
MODULES = ("scipy.sparse", "scipy.sparse.linalg")


def propagate(luma: NDArray[np.uint8], chroma: NDArray[np.uint8], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Propagate the chroma of known pixels to all others. Without known pixels, all become grey.

    Arguments:
        luma: (H, W) uint8.
        chroma: (H, W, 2) uint8, Cb and Cr; values elsewhere than at known pixels do not matter.
        known: (H, W) bool.

    Returns: (H, W, 2) uint8. Known pixels keep their chroma.

    Raises:
        InputError: if SciPy is not installed.
    """
    if not known.any():
        return np.full_like(chroma, GREY)
    if known.all():
        return chroma
    if luma.size > MAX_PIXELS:
        return _at_half_size(luma, chroma, known)
    sparse, solver = (
        import_optional(name, "colour hints require SciPy", "caflow-deploy[colorize]") for name in MODULES
    )
    weights, places = _weights(luma / 255.0)
    count, at = luma.size, np.arange(luma.size)
    free = ~known.ravel()
    # A row says that a pixel is the weighted mean of its neighbours, or has its known value.
    values = np.concatenate([np.ones(count), *(-w.ravel() * free for w in weights)])
    columns = np.concatenate([at, *(p.ravel() for p in places)])
    system = sparse.csc_array((values, (np.tile(at, 1 + len(weights)), columns)), shape=(count, count))
    wanted = np.where(free[:, None], 0.0, chroma.reshape(-1, 2).astype(np.float64) - GREY)
    try:
        factors = solver.splu(system)
    except RuntimeError:  # no hint reaches some pixels: at the ends of a ramp, weights of neighbours are 0 in float64
        factors = solver.splu(system + PULL_TO_GREY * sparse.eye_array(count, format="csc"))
    found = factors.solve(wanted).reshape(chroma.shape)
    spread = np.rint(found + GREY).clip(0, 255).astype(np.uint8)
    return np.where(known[..., None], chroma, spread)


def _at_half_size(luma: NDArray[np.uint8], chroma: NDArray[np.uint8], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Propagate at half the width and height, and enlarge the result."""
    height, width = luma.shape
    even = ((0, height % 2), (0, width % 2))
    whole = np.pad(luma, even, mode="edge")
    hints = np.pad(np.dstack([chroma, luma, np.where(known, 255, 0)]), (*even, (0, 0))).astype(np.uint8)
    colours, is_known = reduced_hints(hints, 2)
    small = np.asarray(cv2.resize(whole, is_known.shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    spread = cv2.resize(propagate(small, colours[..., :2], is_known), whole.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.where(known[..., None], chroma, np.asarray(spread, np.uint8)[:height, :width])


def _weights(luma: NDArray[np.float64]) -> tuple[list[NDArray[np.float64]], list[NDArray[np.int64]]]:
    """Return the weight of each of eight neighbours at each pixel, and their indices.

    The weights of a pixel add up to 1, and are 0 outside the image.
    """
    height, width = luma.shape
    padded = np.pad(luma, 1, mode="edge")
    near = np.stack([padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] for dy, dx in NEIGHBOURS])
    variance = np.var(np.concatenate([near, luma[None]]), axis=0)
    difference = np.square(near - luma)
    spread = np.maximum(SIMILARITY * variance, np.maximum(-difference.min(0) / np.log(0.01), SMALLEST_VARIANCE))
    weights = np.exp(-difference / spread)
    y, x = np.mgrid[:height, :width]
    places = []
    for weight, (dy, dx) in zip(weights, NEIGHBOURS, strict=True):
        inside = (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        weight *= inside
        places.append(np.where(inside, (y + dy) * width + x + dx, 0))
    return list(weights / weights.sum(0)), places


def reduced_hints(hints: Image, factor: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Reduce a picture of hints, (H, W, 4) uint8 RGBA, whose sides are multiples of `factor`.

    Returns: RGB, (H/factor, W/factor, 3) uint8, the mean over the pixels that are drawn, and where there is a hint,
        (H/factor, W/factor) bool: where at least half a pixel is drawn.
    """
    height, width = (side // factor for side in hints.shape[:2])
    cells = hints.reshape(height, factor, width, factor, 4).astype(np.float64)
    alpha = cells[..., 3:] / 255
    total = alpha.sum((1, 3))
    colours = (cells[..., :3] * alpha).sum((1, 3)) / np.maximum(total, 1e-9)
    return np.rint(colours).astype(np.uint8), total[..., 0] >= 0.5


@dataclass(frozen=True)
class Point:
    """A dot of colour, as a hint."""

    x: int
    """Column of its centre in the image, in pixels."""
    y: int
    """Row of its centre in the image, in pixels."""
    color: tuple[int, int, int] | str
    """Red, green and blue, 0…255, or as text: "#d9b08c". Its luma does not matter."""

    @property
    def rgb(self) -> tuple[int, ...]:
        """Red, green and blue, 0…255.

        Raises:
            InputError: if the colour is not valid.
        """
        values = self.color
        if isinstance(values, str):
            if not re.fullmatch("#[0-9a-fA-F]{6}", values):
                raise InputError(f'color: expected red, green and blue, or a text such as "#d9b08c"; got {values!r}')
            return tuple(bytes.fromhex(values[1:]))
        for value in values:
            check_integer("color", value, 0, 255)
        return tuple(values)


def draw_hints(height: int, width: int, points: Iterable[Point], radius: int = 4) -> Image:
    """Return a picture of hints, (height, width, 4) uint8 RGBA, with a dot at each point.

    Arguments:
        radius: radius of the dots in pixels, at least 3.

    Raises:
        InputError: if a point lies outside the image, or a colour is not valid.
    """
    check_integer("radius", radius, 3)
    hints = np.zeros((height, width, 4), np.uint8)
    for point in points:
        check_integer("x", point.x, 0, width - 1)
        check_integer("y", point.y, 0, height - 1)
        cv2.circle(hints, (point.x, point.y), radius, (*point.rgb, 255), cv2.FILLED)
    return hints
