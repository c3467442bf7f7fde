"""Replacement of the colours of fully transparent pixels by the colours next to them.

The colours of transparent pixels are arbitrary, and many files store black. A filter or model that sees this black adds
a dark fringe to edges.
"""

from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = TypeVar("Picture", bound=NDArray[Any])

MOSTLY_OPAQUE = 128
"""Smallest alpha of a pixel whose colour is precise enough to be copied to transparent pixels."""
LINES_AT_ONCE = 256


def matted(rgb: Picture, alpha: NDArray[np.uint8]) -> Picture:
    """Return an image in which each fully transparent pixel has the colour of the nearest mostly opaque pixel.

    All other pixels are unchanged. A second call changes nothing. Without any mostly opaque pixel, the image is
    returned unchanged.

    Arguments:
        rgb: (H, W, 3) of any dtype.
        alpha: (H, W); 0 is fully transparent.
    """
    seen = alpha >= MOSTLY_OPAQUE
    if alpha.all() or not seen.any():
        return rgb
    mask = (~seen).astype(np.uint8)
    nearest = cv2.distanceTransformWithLabels(mask, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL)[1]
    colours, result = np.empty((int(nearest.max()) + 1, 3), rgb.dtype), rgb.copy()
    parts = [slice(top, top + LINES_AT_ONCE) for top in range(0, len(rgb), LINES_AT_ONCE)]
    for part in parts:
        colours[nearest[part][seen[part]]] = rgb[part][seen[part]]
    for part in parts:
        hidden = alpha[part] == 0
        result[part][hidden] = colours[nearest[part][hidden]]
    return result
