"""Luma and chroma: the values of colours that a model of chroma sees and draws.

YCbCr is that of JPEG: full range, with the weights of BT.601. 128 is the chroma of grey.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.image_arrays import Image

CB_CR = (1.772, 1.402)
"""Change of blue with Cb, and of red with Cr."""
GREEN = (-0.344136, -0.714136)
"""Change of green with Cb and with Cr."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma."""
GREY = 128
"""Chroma of grey."""


def rgb_to_ycbcr(image: Image) -> Image:
    """Return luma, blue and red chroma of an image, (H, W, 3) uint8, of RGB values of the same kind."""
    return np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]], np.uint8)


def recolored(image: NDArray[Any], chroma: NDArray[Any]) -> NDArray[Any]:
    """Return an image with its own luma and another chroma, as far as values in range can have it.

    Arguments:
        image: (H, W, 3) uint8 or uint16 RGB.
        chroma: (H, W, 2) of the same type, Cb and Cr.

    Returns: (H, W, 3) of the same type. Grey stays exactly as it is where the chroma is that of grey.
    """
    unit = np.iinfo(image.dtype).max / 255
    luma = np.rint(image @ np.array(LUMA))[..., None]
    cb, cr = (chroma[..., k] - GREY * unit for k in range(2))
    change = np.stack([CB_CR[1] * cr, GREEN[0] * cb + GREEN[1] * cr, CB_CR[0] * cb], -1)
    # Chroma is reduced where a value would leave the range, so that clipping does not change the luma.
    free = np.where(change > 0, 255 * unit - luma, -luma)
    share = np.divide(free, change, out=np.ones_like(change), where=change != 0).min(-1, keepdims=True)
    return np.asarray(np.rint(luma + np.clip(share, 0, 1) * change), image.dtype)
