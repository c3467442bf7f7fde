"""Luma and chroma: the values of colours that a model of chroma sees and draws.

YCbCr is that of JPEG: full range, with the weights of BT.601. 128 is the chroma of grey.
"""

import cv2
import numpy as np

from caflow_runtime.image_arrays import Image

CB_CR = (1.772, 1.402)
"""Change of blue with Cb, and of red with Cr."""
GREEN = (-0.344136, -0.714136)
"""Change of green with Cb and with Cr."""


def rgb_to_ycbcr(image: Image) -> Image:
    """Return luma, blue and red chroma of an image, (H, W, 3) uint8, of RGB values of the same kind."""
    return np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]], np.uint8)


def ycbcr_to_rgb(image: Image) -> Image:
    """Return RGB values, (H, W, 3) uint8, with the luma and as much of the chroma as they can have."""
    y, cb, cr = (image[..., k].astype(np.float32) - (0, 128, 128)[k] for k in range(3))
    change = np.stack([CB_CR[1] * cr, GREEN[0] * cb + GREEN[1] * cr, CB_CR[0] * cb], -1)
    # Chroma is reduced where a value would leave 0…255, so that clipping does not change the luma.
    room = np.where(change > 0, 255 - y[..., None], -y[..., None])
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(change == 0, 1.0, room / change).min(-1, keepdims=True).clip(0, 1)
    return np.asarray(np.rint(y[..., None] + share * change).clip(0, 255), np.uint8)
