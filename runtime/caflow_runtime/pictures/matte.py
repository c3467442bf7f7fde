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


def matted(rgb: Picture, alpha: NDArray[np.uint8]) -> Picture:
    """(H, W, 3) of any type, with the colour of the nearest pixel that is mostly opaque wherever alpha, (H, W), is 0.

    Pixels that are not wholly transparent stay as they are. Done twice, it is what it is done once.
    """
    hidden = alpha == 0
    seen = alpha >= MOSTLY_OPAQUE
    if not hidden.any() or not seen.any():
        return rgb
    mask = np.where(seen, 0, 1).astype(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(mask, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL)
    colours = np.empty((int(nearest.max()) + 1, 3), rgb.dtype)
    colours[nearest[seen]] = rgb[seen]
    result = rgb.copy()
    result[hidden] = colours[nearest[hidden]]
    return result
