"""Colours of transparent pixels, which nobody has chosen: what is next to them takes their place.

Files often hold black there. A filter or a model that sees it gives edges a dark fringe.
"""

from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = TypeVar("Picture", bound=NDArray[Any])

MOSTLY_OPAQUE = 128
"""Alpha from which on a colour is precise enough to be continued."""
LINES_AT_ONCE = 256


def matted(rgb: Picture, alpha: NDArray[np.uint8]) -> Picture:
    """(H, W, 3) of any type, with the colour of the nearest pixel that is mostly opaque wherever alpha, (H, W), is 0.

    Pixels that are not wholly transparent stay as they are. Done twice, it is what it is done once.
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
