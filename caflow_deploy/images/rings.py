"""Rings around places of an image, with their numbers."""

from collections.abc import Sequence

import cv2
import numpy as np

from caflow_runtime.image_arrays import Image

DARK, BRIGHT = (0, 0, 0), (255, 255, 255)


def with_rings(image: Image, places: Sequence[tuple[int, int]]) -> Image:
    """Return an image with a ring around each place, and its number, from 1.

    Arguments:
        image: (H, W, 3) uint8 RGB.
        places: column and row of each place, in pixels.
    """
    marked = np.ascontiguousarray(image).copy()
    radius = max(5, min(image.shape[:2]) // 60)
    for number, place in enumerate(places, start=1):
        label = (place[0] + radius + 2, place[1] + radius // 2)
        for colour, width in ((DARK, 4), (BRIGHT, 2)):  # a dark edge, so that rings are seen on every ground
            cv2.circle(marked, place, radius, colour, width, cv2.LINE_AA)
            cv2.putText(marked, str(number), label, cv2.FONT_HERSHEY_SIMPLEX, radius / 14, colour, width, cv2.LINE_AA)
    return marked
