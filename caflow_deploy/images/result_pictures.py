"""Pictures about a result: the sheet of its samples, maps, and numbered rings around places."""

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.flow.log_likelihood_maps import map_per_pixel, maps_per_level
from caflow_runtime.image_arrays import Image
from caflow_runtime.pipeline.results import Likelihood, Samples

SMALLEST_CELL, LARGEST_CELL = 160, 512
"""Smallest width, and largest side, at which images are shown, in pixels."""
LONGEST_ROW = 2048
"""Largest width of a row of images, in pixels."""
GAP, CAPTION = 8, 22
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.42
BRIGHTEST = 0.99
"""Quantile of a map that is shown brightest, so that a few outliers do not darken the rest."""
CHANNELS = 3
DARK, BRIGHT = (0, 0, 0), (255, 255, 255)


def sheet(condition: Image, samples: Samples) -> Image:
    """Return the contact sheet of the first image of a batch, (h, w, 3) uint8 RGB.

    The captions of samples are their bits per dimension. The uncertainty map requires at least two samples.
    """
    pictures = samples.images[0]
    cells = [(_shown(condition, pictures.shape[1:3]), "condition")]
    for k, (picture, bits) in enumerate(zip(pictures, samples.bits_per_dim[0], strict=True)):
        cells.append((picture, f"{'best: ' if k == 0 else ''}{bits:.3f} bits/dim"))
    if len(pictures) > 1:
        deviation = np.asarray(samples.std[0]).mean(2)
        brightest = float(np.quantile(deviation, BRIGHTEST))
        cells.append((coloured(deviation, 0.0, brightest), f"std, brightest: {brightest:.1f} of 255"))
    return _grid([_with_caption(*cell) for cell in cells])


def _shown(condition: Image, size: tuple[int, int]) -> Image:
    """Return the condition at the target's size, enlarged without smoothing."""
    if condition.shape[:2] == size:
        return condition
    return np.asarray(cv2.resize(condition, (size[1], size[0]), interpolation=cv2.INTER_NEAREST), np.uint8)


def _with_caption(picture: Image, caption: str) -> Image:
    height, width = picture.shape[:2]
    factor = min(max(1.0, SMALLEST_CELL / width), LARGEST_CELL / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    filter_ = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    resized = np.asarray(cv2.resize(picture, size, interpolation=filter_), np.uint8)
    cell = np.full((size[1] + CAPTION, max(size[0], SMALLEST_CELL), 3), 255, np.uint8)
    cell[: size[1], : size[0]] = resized
    cv2.putText(cell, caption, (2, size[1] + 15), FONT, FONT_SCALE, (0, 0, 0), 1, cv2.LINE_AA)
    return cell


def _grid(cells: list[Image]) -> Image:
    """Arrange cells of equal size in rows, on a white background."""
    height, width = cells[0].shape[:2]
    columns = min(
        len(cells), max(1, LONGEST_ROW // (width + GAP)), -(-len(cells) // 2) if len(cells) > 4 else len(cells)
    )
    rows = -(-len(cells) // columns)
    page = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), 255, np.uint8)
    for k, cell in enumerate(cells):
        top, left = GAP + k // columns * (height + GAP), GAP + k % columns * (width + GAP)
        page[top : top + height, left : left + width] = cell
    return page


def names(levels: int, samples: int) -> list[str]:
    """Return the names that `pictures` yields.

    Arguments:
        samples: number of samples; 0 for scored images.
    """
    return ["likelihood", *(f"likelihood-{j}" for j in range(levels)), *(["uncertainty"] if samples > 1 else [])]


def pictures(result: Likelihood, image: int = 0) -> Iterator[tuple[str, Image, float, float]]:
    """Yield the maps of one image of a batch as pictures.

    Likelihood maps show the best sample, or the scored image. The uncertainty map shows the standard deviation of all
    samples, and exists only for two or more.

    Yields:
        name: "likelihood"; "likelihood-0", … for each level, coarsest first; or "uncertainty".
        picture: (H, W, 3) uint8 RGB. Bright means unlikely, or uncertain.
        darkest, brightest: values that are shown darkest and brightest, in bits/dim; for "uncertainty" in grey levels.
    """
    maps = result.maps[image][0] if isinstance(result, Samples) else result.maps[image]
    levels = maps_per_level(maps, result.per_level.shape[-1])
    for name, part in [("likelihood", maps), *((f"likelihood-{j}", level) for j, level in enumerate(levels))]:
        bits = -map_per_pixel(part, *result.sides[image]) / (CHANNELS * np.log(2))
        counted = bits[bits != 0] if bits.any() else bits  # not what is known, which has no likelihood
        darkest, brightest = (float(np.quantile(counted, share)) for share in (1 - BRIGHTEST, BRIGHTEST))
        yield name, coloured(bits, darkest, brightest), darkest, brightest
    if isinstance(result, Samples) and result.images[image].shape[0] > 1:
        deviation = np.asarray(result.std[image]).mean(2)
        brightest = float(np.quantile(deviation, BRIGHTEST))
        yield "uncertainty", coloured(deviation, 0.0, brightest), 0.0, brightest


def coloured(values: NDArray[Any], darkest: float, brightest: float) -> Image:
    """Return values, (H, W), as colours from dark to bright: (H, W, 3) uint8 RGB."""
    share = (values - darkest) / max(brightest - darkest, 1e-6)
    scaled = np.asarray(np.clip(255 * share, 0, 255), np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB), np.uint8)


def with_rings(image: Image, places: Sequence[tuple[int, int]]) -> Image:
    """Return an image with a ring around each place, and its number, from 1.

    Arguments:
        image: (H, W, 3) uint8 RGB.
        places: column and row of each place, in pixels.
    """
    marked = np.ascontiguousarray(image).copy()
    height, width = image.shape[:2]
    radius = max(5, min(height, width) // 60)
    font, size = cv2.FONT_HERSHEY_SIMPLEX, max(0.45, radius / 14)
    for number, (x, y) in enumerate(places, start=1):
        for colour, line in ((DARK, 4), (BRIGHT, 2)):  # a dark edge, so that rings are seen on every ground
            cv2.circle(marked, (x, y), radius, colour, line, cv2.LINE_AA)
        (wide, high), _ = cv2.getTextSize(str(number), font, size, 1)
        left = x + radius + 5 if x + radius + wide + 8 < width else x - radius - wide - 5
        bottom = min(max(y + high // 2, high + 3), height - 4)
        cv2.rectangle(marked, (left - 3, bottom - high - 3), (left + wide + 2, bottom + 3), DARK, cv2.FILLED)
        cv2.putText(marked, str(number), (left, bottom), font, size, BRIGHT, 1, cv2.LINE_AA)
    return marked
