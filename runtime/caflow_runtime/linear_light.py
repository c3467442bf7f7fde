"""Resampling of images to other sizes.

Images are reduced without aliasing and in linear light, as a camera with fewer pixels would have recorded them. sRGB
values are not proportional to light: the mean of the values of a black and a white pixel is darker than both look from
a distance. Therefore values are converted to linear light (IEC 61966-2-1), filtered, and converted back. Images are
enlarged by OpenCV.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Picture = TypeVar("Picture", bound=NDArray[Any])

CUBIC = -0.5
"""Parameter a of Keys' cubic kernel, as used by Pillow and PyTorch for reducing."""
SUPPORT = 2
"""Radius of the kernel, in pixels of the result."""
STRIP_PIXELS = 2**20
"""Number of source pixels that are processed at once. Intermediate values need 12 bytes per value."""
VALUES = {np.dtype(np.uint8): (255, 0.0), np.dtype(np.uint16): (65535, 0.0), np.dtype(np.float32): (255, 0.5)}
"""By type: the difference between the values of white and black, and the value of black. A float in [w, w + 1) stands
for the integer w."""


def resample(image: Picture, height: int, width: int) -> Picture:
    """Resample (H, W, 3) sRGB to (height, width, 3) of the same type, as `reduce`. Each side may grow or shrink.

    What grows is interpolated by the Lanczos filter. Floats may then exceed the range of the image.
    """
    return _enlarge(reduce(image, *_smaller(image, height, width)), height, width, cv2.INTER_LANCZOS4)


def resample_alpha(alpha: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resample (H, W) alpha to (height, width). Each side may grow or shrink.

    What grows is interpolated bicubically: the Lanczos filter would make transparent areas near edges visible.
    """
    return _enlarge(reduce_alpha(alpha, *_smaller(alpha, height, width)), height, width, cv2.INTER_CUBIC)


def reduce(image: Picture, height: int, width: int) -> Picture:
    """Reduce (H, W, 3) sRGB to (height, width, 3) of the same type: uint8, uint16, or float32 continuous pixel values.

    The new sides must not be larger than the old ones. Strips are processed one by one, so that little memory is needed
    in addition to the result.
    """
    return _reduce(image, height, width, _to_light, _from_light)


def reduce_alpha(alpha: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Reduce (H, W) alpha to (height, width). Alpha is a coverage, which is linear already."""
    return _reduce(alpha[..., None], height, width, np.copy, partial(np.clip, a_min=0, a_max=1))[..., 0]


def cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights of Keys' cubic kernel at the distances `x` ≥ 0 from its middle."""
    near = (CUBIC + 2) * x**3 - (CUBIC + 3) * x**2 + 1
    far = CUBIC * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x < 1, near, np.where(x < SUPPORT, far, 0.0))


def _smaller(image: NDArray[Any], height: int, width: int) -> tuple[int, int]:
    return min(height, image.shape[0]), min(width, image.shape[1])


def _enlarge(image: Picture, height: int, width: int, interpolation: int) -> Picture:
    if image.shape[:2] == (height, width):
        return image
    return cv2.resize(image, (width, height), interpolation=interpolation)  # type: ignore[return-value]


def _reduce(
    image: Picture,
    height: int,
    width: int,
    decode: Callable[[Floats], Floats],
    encode: Callable[[Floats], Floats],
) -> Picture:
    if image.shape[:2] == (height, width):
        return image
    white, black = VALUES[image.dtype]
    rows, row_weights = _taps(image.shape[0], height)
    columns, column_weights = _taps(image.shape[1], width)
    result = np.empty((height, width, image.shape[2]), image.dtype)
    lines = max(1, STRIP_PIXELS * height // (image.shape[0] * image.shape[1]))
    for top in range(0, height, lines):
        part = slice(top, top + lines)
        first, last = int(rows[part].min()), int(rows[part].max())
        light = _light_of(image[first : last + 1], decode)
        filtered = _filtered(light, rows[part] - first, row_weights[part], 0)
        values = encode(_filtered(filtered, columns, column_weights, 1)) * np.float32(white) + np.float32(black)
        result[part] = values if image.dtype == np.float32 else np.rint(values)
    return result  # type: ignore[return-value]


def _light_of(values: NDArray[Any], decode: Callable[[Floats], Floats]) -> Floats:
    """Return decoded values. Each of the few values of integers is decoded only once."""
    white, black = VALUES[values.dtype]
    if values.dtype == np.float32:
        return decode((values - np.float32(black)) / np.float32(white))
    light = decode(np.arange(white + 1, dtype=np.float32) / np.float32(white))
    return np.take(light, values)


def _filtered(light: Floats, places: NDArray[np.intp], weights: Floats, axis: int) -> Floats:
    """Return weighted sums of the values at `places` along an axis.

    The order of summation is fixed, so that all machines give the same result.
    """
    shape = [1] * light.ndim
    shape[axis] = len(places)
    total: Floats = np.take(light, places[:, 0], axis) * weights[:, 0].reshape(shape)
    term = np.empty_like(total)
    for place, weight in zip(places.T[1:], weights.T[1:], strict=True):
        np.take(light, place, axis, out=term, mode="clip")  # unlike "raise", this mode needs no copy
        term *= weight.reshape(shape)
        total += term
    return total


def _taps(before: int, after: int) -> tuple[NDArray[np.intp], Floats]:
    """Return which of `before` pixels each of `after` pixels is computed from, and with which weights.

    The result is two arrays (after, T): the indices of the pixels, and their weights.

    The kernel is widened by the reduction factor. Weights of pixels beyond the border are 0, and the remaining weights
    are normalized.
    """
    ratio = before / after
    middles = (np.arange(after) + 0.5) * ratio
    firsts = np.floor(middles - SUPPORT * ratio).astype(np.intp)
    places = firsts[:, None] + np.arange(int(np.ceil(2 * SUPPORT * ratio)) + 1)
    x = np.abs((places + 0.5 - middles[:, None]) / ratio)
    weights = cubic(x)
    weights[(places < 0) | (places >= before)] = 0.0
    weights /= weights.sum(1, keepdims=True)
    return np.clip(places, 0, before - 1), weights.astype(np.float32)


def _to_light(values: Floats) -> Floats:
    """Convert sRGB values to linear light, both 0…1."""
    values = np.clip(values, 0, 1)
    light: Floats = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return light


def _from_light(light: Floats) -> Floats:
    """Convert linear light to sRGB values, both 0…1."""
    light = np.clip(light, 0, 1)
    values: Floats = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return values
