"""Where the next hint of colour helps most: the places whose colour would tell most about the rest of an image.

As in the propagation of hints, neighbours of similar luma are taken to have similar chroma. This makes the chroma of an
image a Gaussian Markov random field (Rue and Held, "Gaussian Markov Random Fields", 2005), whose variances say how far
each place is known from the hints, and whose covariances how far one more hint would reach.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.checks import check_integer
from caflow_runtime.completion.color_space import rgb_to_ycbcr
from caflow_runtime.errors import InputError
from caflow_runtime.image_arrays import Image, as_image

PLACES = 1024
"""Largest number of cells into which an image is divided. A hint is suggested at the middle of a cell."""
SIMILAR = 12.0
"""Standard deviation of the difference in luma of neighbours that share a colour, in grey levels."""
LEAST = 0.02
"""Least similarity of neighbours, across the strongest edge, as a fraction of that of equal neighbours."""
PRIOR = 0.003
"""Precision of a cell's chroma without its neighbours, as a fraction of that of the difference of equal neighbours."""
NOISE = 0.05
"""Variance of a cell's chroma if its middle is known, on the same scale."""
NEIGHBOURS = (((0, 1), 1.0), ((1, 0), 1.0), ((1, 1), 0.5), ((1, -1), 0.5))
"""Row and column of each neighbour relative to a cell, and the weight of their similarity. The others are symmetric."""
Floats = NDArray[np.float64]


def suggest_hints(image: Image, count: int, hints: Image | None = None) -> list[tuple[int, int]]:
    """Return the places where hints of colour would help most, the best first.

    Each place is the one whose known colour would reduce the variance of the image's chroma most, in total, given the
    hints and the places before it.

    Arguments:
        image: (H, W, 3) uint8 RGB. Its luma alone counts.
        count: largest number of places; small images have fewer.
        hints: (H, W, 4) uint8 RGBA, opaque where there are hints already.

    Returns: column and row of each place, in pixels.

    Raises:
        InputError: if an argument is not valid.
    """
    check_integer("count", count, 1, PLACES)
    image = as_image(image, "image")
    if hints is not None and hints.shape != (*image.shape[:2], 4):
        raise InputError(f"hints: expected an array of shape {(*image.shape[:2], 4)}; got {hints.shape}")
    side = max(1.0, np.sqrt(image.shape[0] * image.shape[1] / PLACES))
    height, width = (max(1, int(extent / side)) for extent in image.shape[:2])
    known: list[int] = [] if hints is None else np.flatnonzero(_reduced(hints[..., 3], height, width)).tolist()
    covariance = _covariance(_reduced(rgb_to_ycbcr(image)[..., 0], height, width), known)
    found = list[int]()
    for _ in range(min(count, height * width - len(known))):
        gains = np.square(covariance).sum(0) / (np.diagonal(covariance) + NOISE)
        gains[[*known, *found]] = -1
        found.append(int(np.argmax(gains)))
        covariance = _given(covariance, found[-1])
    rows, columns = np.divmod(found, width)
    middles = ((columns + 0.5) * image.shape[1] / width, (rows + 0.5) * image.shape[0] / height)
    return list(zip(*(middle.astype(int).tolist() for middle in middles), strict=True))


def _reduced(values: NDArray[np.uint8], height: int, width: int) -> Floats:
    return np.asarray(cv2.resize(values.astype(float), (width, height), interpolation=cv2.INTER_AREA), np.float64)


def _covariance(luma: Floats, known: list[int]) -> Floats:
    """Return the covariance of the chroma of all P = h · w cells, (P, P), given their luma and which cells have a hint.

    Arguments:
        luma: (h, w), in grey levels.
        known: numbers of the cells with a hint, counted row by row.
    """
    height, width = luma.shape
    cells = np.arange(luma.size).reshape(height, width)
    precision = PRIOR * np.eye(luma.size)
    precision[known, known] += 1 / NOISE
    for (down, right), weight in NEIGHBOURS:
        first = cells[: height - down, max(0, -right) : width - max(0, right)].ravel()
        second = cells[down:, max(0, right) : width - max(0, -right)].ravel()
        difference = luma.ravel()[first] - luma.ravel()[second]
        similarity = weight * (np.exp(-np.square(difference / SIMILAR) / 2) + LEAST)
        np.subtract.at(precision, (first, second), similarity)
        np.subtract.at(precision, (second, first), similarity)
        for one in (first, second):
            np.add.at(precision, (one, one), similarity)
    return np.asarray(np.linalg.inv(precision))


def _given(covariance: Floats, cell: int) -> Floats:
    """Return the covariance that remains if the chroma of a cell is known, but for `NOISE`."""
    reach = covariance[cell]
    return np.asarray(covariance - np.outer(reach, reach) / (reach[cell] + NOISE))
