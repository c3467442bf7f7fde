"""Conditions for which models tend to fail, such as noise, dithering, checkerboards, text and flat colours.

All of them are reproducible. Conditions that are not made from photographs have 64×64 pixels. Flat colours,
checkerboards and gradients have several colours, since a model may be stable for grey and not for red.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from degradations import generator, noisy
from metrics import Crop, Picture
from numpy.typing import NDArray

from caflow_runtime.degradation import Dither
from caflow_training.degradations import dithered

SIDE = 64
PAIRS = (((0, 0, 0), (255, 255, 255)), ((64, 64, 64), (192, 192, 192)), ((255, 0, 0), (0, 255, 255)))
"""Pairs of RGB colours of the checkerboards."""
SHIFTS = ((0, 0), (1, 0), (1, 1))
"""Shifts of the checkerboards, in pixels up and to the left. A model may be stable only for cells that begin at even
pixels, because it divides images into squares of 2×2 pixels."""
NOISES = 6
"""Number of pictures of uniform noise."""
WORDS = ("The quick", "brown fox", "jumps over", "13 lazy dogs")
FONTS = ((cv2.FONT_HERSHEY_SIMPLEX, 0.3), (cv2.FONT_HERSHEY_COMPLEX, 0.4), (cv2.FONT_HERSHEY_PLAIN, 0.6))
"""Fonts of OpenCV with their scales. Capital letters are about 6 to 9 pixels high."""


def checkerboards(cell: int) -> Iterator[Picture]:
    """Generate checkerboards with cells of cell×cell pixels, for each pair of colours and each shift."""
    for a, b in PAIRS:
        for down, right in SHIFTS[: cell + 1]:  # with cells of 1, the last shift shows the first checkerboard again
            y, x = np.mgrid[down : down + SIDE, right : right + SIDE] // cell
            yield np.where(((y + x) % 2)[..., None], np.array(a), np.array(b)).astype(np.uint8)


def text() -> Iterator[Picture]:
    """Generate pictures of text in each font, black on white and white on black."""
    for font, scale in FONTS:
        page = np.full((SIDE, SIDE, 3), 255, np.uint8)
        for line, words in enumerate(WORDS):
            cv2.putText(page, words, (1, 14 + 15 * line), font, scale, (0, 0, 0), 1, cv2.LINE_AA)
        yield page
        yield 255 - page


def flat() -> Iterator[Picture]:
    """Generate pictures of one colour: the corners of the RGB cube, and three greys."""
    corners = [(r, g, b) for r in (0, 255) for g in (0, 255) for b in (0, 255)]
    for colour in (*corners, *((grey,) * 3 for grey in (64, 128, 192))):
        yield np.full((SIDE, SIDE, 3), colour, np.uint8)


def gradients() -> Iterator[Picture]:
    """Generate gradients from left to right, from corner to corner and from the centre outwards.

    Each runs from black to white and from blue to yellow.
    """
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)
    for ramp in (x, (x + y) / 2, np.hypot(x - 0.5, y - 0.5) / np.hypot(0.5, 0.5)):
        for colours in (((0, 0, 0), (255, 255, 255)), ((0, 0, 255), (255, 255, 0))):
            yield mixed(ramp, *map(np.array, colours))


def mixed(ramp: NDArray[np.float64], a: NDArray[np.int64], b: NDArray[np.int64]) -> Picture:
    """Return the mixture of two colours: `a` where the ramp, (H, W), is 0, and `b` where it is 1."""
    return np.rint(a + ramp[..., None] * (b - a)).astype(np.uint8)


def hard_photographs(photographs: list[Crop]) -> dict[str, list[Picture]]:
    """Return conditions by kind: those of the photographs, noisy or dithered. Each list has the photographs' order."""
    conditions = [crop.condition for crop in photographs]
    dithers: dict[str, Dither] = {"ordered dithering": "ordered", "Floyd–Steinberg": "diffused"}
    return {
        "photographs": conditions,
        **{
            f"photographs, noise σ = {sigma}": [
                noisy(crop.condition, sigma, generator(crop.name)) for crop in photographs
            ]
            for sigma in (5, 10)
        },
        **{
            f"{name}, {bits} bit": [dithered(condition, bits, dither) for condition in conditions]
            for name, dither in dithers.items()
            for bits in (1, 2)
        },
    }


def hard_checkerboards() -> dict[str, list[Picture]]:
    """Return checkerboards as conditions, by the side of their cells."""
    return {f"checkerboards of {cell}": [*checkerboards(cell)] for cell in (1, 2, 4)}


def hard_drawings() -> dict[str, list[Picture]]:
    """Return other conditions by kind that are not made from photographs."""
    noise = [generator(str(k)).integers(0, 256, (SIDE, SIDE, 3), np.uint8) for k in range(NOISES)]
    return {"text": [*text()], "flat colours": [*flat()], "gradients": [*gradients()], "uniform noise": noise}
