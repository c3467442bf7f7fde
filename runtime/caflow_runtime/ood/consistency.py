"""Consistency of a result with its condition: the result is degraded again and compared with the condition.

For super-resolution, a result can also be changed so that it matches its condition (`projected`).
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.bundle.manifest import Model
from caflow_runtime.errors import InputError
from caflow_runtime.flow.tiles import Floats
from caflow_runtime.image import Image
from caflow_runtime.linear_light import cubic

MAX_PROJECTIONS = 200
"""Maximum number of iterations. About ten are enough unless pixels are clipped at 0 or 255."""
CLOSE_ENOUGH = 0.2
"""Largest accepted difference in grey levels. It is smaller than the error of the rounding that follows."""
EXACT = 100.0
"""PSNR in dB that is reported for equal images."""


def consistency(model: Model, image: Image, condition: Image) -> float:
    """Return the PSNR in dB between the condition and `image` degraded as in training (LR-PSNR for super-resolution).

    For inpainting, only known pixels are compared: pixels that are not black in the condition.

    Raises:
        InputError: if the degradation of this task cannot be repeated.
    """
    if model.task == "inpainting":
        known = condition.any(2)
        return psnr(image[known], condition[known])
    degraded = degrade(model, image)
    return psnr(degraded, condition if model.task == "super-resolution" else _grey(condition))


def degrade(model: Model, target: Image) -> Image:
    """Return the condition of a target, (h, w, 3) uint8, made as in training.

    Raises:
        InputError: if the task does not define the degradation, or draws it at random, such as the holes of inpainting.
    """
    settings = model.task_settings
    if model.task == "super-resolution":
        return np.asarray(np.rint(np.clip(reduce(target, model.scale, settings["down_filter"]), 0, 255)), np.uint8)
    if model.task == "colorization":
        return _grey(target)
    if model.task == "sketch":
        edges = cv2.Canny(
            cv2.cvtColor(target, cv2.COLOR_RGB2GRAY), settings["low_threshold"], settings["high_threshold"]
        )
        return np.repeat(np.asarray(edges, np.uint8)[..., None], 3, 2)
    raise InputError(
        f"the task {model.task!r} does not define how to make a condition from a target: calibrate with pairs, in a "
        "folder with the subfolders A (conditions) and B (targets)"
    )


def project(model: Model, pixels: Floats, condition: Image) -> Image:
    """Return `projected`, rounded: (H, W, 3) uint8. For super-resolution only."""
    return np.asarray(np.rint(projected(model, pixels, condition)), np.uint8)


def projected(model: Model, pixels: Floats, condition: Image) -> Floats:
    """Return pixel values near the sample whose reduction is the condition. For super-resolution only.

    The values are found by back-projection and stay within 0…255. Some conditions, such as white noise, are not the
    reduction of any image. The result then matches only approximately; `consistency` measures how well.

    Arguments:
        pixels: (H, W, 3) float32 continuous pixel values of a sample.

    Returns:
        (H, W, 3) float32 grey levels, not continuous pixel values: an integer stands for itself, not for an interval.
    """
    down_filter = model.task_settings["down_filter"]
    # Continuous values in [w, w + 1) stand for the integer w, so the middle of the interval becomes w.
    image: NDArray[Any] = np.clip(pixels - np.float32(0.5), 0, 255)
    for _ in range(MAX_PROJECTIONS):
        missing = condition - reduce(image, model.scale, down_filter)
        if np.abs(missing).max() < CLOSE_ENOUGH:
            break
        image = np.clip(image + enlarge(missing, model.scale), 0, 255)
    return image


def reduce(image: NDArray[Any], scale: int, down_filter: str) -> Floats:
    """Reduce (H, W, 3) to (H/scale, W/scale, 3) float32 with the antialiased filter, as Pillow and PyTorch do."""
    taps = _taps(scale, down_filter)
    before = len(taps) // 2 - scale // 2
    anchor = (before, before)
    size = {"ddepth": cv2.CV_32F, "borderType": cv2.BORDER_CONSTANT}
    weighted = cv2.sepFilter2D(image, kernelX=taps, kernelY=taps, anchor=anchor, **size)  # type: ignore[call-overload]
    # At the border, filter taps outside the image are dropped and the remaining weights are normalized.
    rows, columns = (_weight_inside(side, scale, taps, before) for side in image.shape[:2])
    reduced: Floats = weighted[::scale, ::scale] / np.outer(rows, columns)[..., None].astype(np.float32)
    return reduced


def enlarge(small: Floats, scale: int) -> Floats:
    """Enlarge (h, w, 3) to (scale · h, scale · w, 3) float32 by bicubic interpolation."""
    size = (scale * small.shape[1], scale * small.shape[0])
    large: Floats = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    return large


def enlarge_image(condition: Image, scale: int) -> Image:
    """Return the condition enlarged bicubically, as uint8.

    It is a baseline for comparison, or a replacement for a rejected result.
    """
    large = enlarge(condition.astype(np.float32), scale)
    return np.asarray(np.clip(np.rint(large), 0, 255), np.uint8)


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the PSNR in dB of two arrays of values in 0…255; `EXACT` if they are equal."""
    error = float(np.square(np.asarray(a, np.float64) - b).mean()) if a.size else 0.0
    return min(EXACT, 10 * np.log10(255**2 / error)) if error > 0 else EXACT


def _grey(image: Image) -> Image:
    """Return the luma in three equal channels."""
    return np.repeat(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)[..., None], 3, 2)


def _taps(scale: int, down_filter: str) -> Floats:
    """Return the filter weights of the source pixels around one reduced pixel: symmetric, with sum 1."""
    support = {"bicubic": 2, "bilinear": 1}[down_filter] * scale
    x = np.abs((np.arange(2 * support) + 0.5 - support) / scale)
    taps = 1 - x if down_filter == "bilinear" else cubic(x)
    return np.asarray(taps / taps.sum(), np.float32)


def _weight_inside(side: int, scale: int, taps: Floats, before: int) -> Floats:
    """Return, for each reduced pixel, the sum of the filter weights that lie inside the image."""
    inside = np.convolve(np.ones(side), taps[::-1].astype(np.float64))
    weights: Floats = inside[len(taps) - 1 - before :][:side:scale].astype(np.float32)
    return weights
