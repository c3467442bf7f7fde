"""Random holes in images, of the kinds that people have to fill: scratches, boxes and brush strokes."""

import math
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Hole = NDArray[np.bool_]
"""(H, W) bool, True where pixels are missing."""
HoleKind = Literal["scratches", "boxes", "strokes"]
SCRATCHES = (1, 4)
"""Smallest number of scratches, and one above the largest."""
SCRATCH_WIDTHS = (2, 9)
"""Smallest width of a scratch in pixels, and one above the largest."""


def draw_hole(kind: HoleKind, height: int, width: int, area: float, rng: np.random.Generator) -> Hole:
    """Draw a hole for an image of the given size.

    Arguments:
        area: fraction of the image that boxes and strokes cover at least. Scratches cover less.
    """
    hole = np.zeros((height, width), np.uint8)
    if kind == "scratches":
        for _ in range(rng.integers(*SCRATCHES)):
            _scratch(hole, rng)
    while kind != "scratches" and hole.mean() < area:
        if kind == "boxes":
            _box(hole, area, rng)
        else:
            _brush_stroke(hole, rng)
    return hole.astype(bool)


def central_square(height: int, width: int, area: float) -> tuple[int, int, int]:
    """Return top, left and side of a square in the middle that covers the fraction `area` of the image."""
    side = min(int(math.sqrt(height * width * area)), height, width)
    return (height - side) // 2, (width - side) // 2, side


def _brush_stroke(hole: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Draw a random brush stroke, a polyline, into `hole`.

    The method follows Yu et al., "Free-Form Image Inpainting with Gated Convolution", 2019.
    """
    height, width = hole.shape
    side = min(height, width)
    thickness = int(rng.integers(max(1, side // 16), max(2, side // 6)))
    x, y, angle = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, 2 * math.pi)
    for _ in range(int(rng.integers(1, 5))):
        angle += rng.uniform(-math.pi / 3, math.pi / 3)
        length = rng.uniform(side / 8, side / 3)
        end_x = float(np.clip(x + length * math.cos(angle), 0, width - 1))
        end_y = float(np.clip(y + length * math.sin(angle), 0, height - 1))
        cv2.line(hole, (round(x), round(y)), (round(end_x), round(end_y)), 1, thickness)
        x, y = end_x, end_y


def _scratch(hole: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Draw a slightly bent line from one border to the opposite one."""
    height, width = hole.shape
    start, middle, end = rng.uniform(0, 1), rng.uniform(-0.06, 0.06), rng.uniform(0, 1)
    along = np.linspace(0, 1, 9)
    across = start + (end - start) * along + 4 * middle * along * (1 - along)
    points = np.stack([across * (width - 1), along * (height - 1)], 1)
    if rng.integers(2):
        points = np.stack([along * (width - 1), across * (height - 1)], 1)
    thickness = int(rng.integers(*SCRATCH_WIDTHS))
    cv2.polylines(hole, [np.rint(points).astype(np.int32)], isClosed=False, color=1, thickness=thickness)


def _box(hole: NDArray[np.uint8], area: float, rng: np.random.Generator) -> None:
    """Draw a box whose sides differ by a factor of up to 2, and which covers about `area`."""
    height, width = hole.shape
    size, ratio = math.sqrt(height * width * area), 2 ** rng.uniform(-0.5, 0.5)
    tall, wide = min(height, max(1, round(size * ratio))), min(width, max(1, round(size / ratio)))
    top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    hole[top : top + tall, left : left + wide] = 1
