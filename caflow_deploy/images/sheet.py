"""Contact sheet of one image: condition, best sample, other samples in order of rank, and uncertainty map."""

import cv2
import numpy as np

from caflow_deploy.images.maps import BRIGHTEST, coloured
from caflow_runtime.image_arrays import Image
from caflow_runtime.pipeline.results import Samples

SMALLEST_CELL, LARGEST_CELL = 160, 512
"""Smallest width, and largest side, at which images are shown, in pixels."""
LONGEST_ROW = 2048
"""Largest width of a row of images, in pixels."""
GAP, CAPTION = 8, 22
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.42


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
