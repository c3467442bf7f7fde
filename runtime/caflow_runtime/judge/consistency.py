"""How well a result, degraded again, matches the condition it came from; and, for super-resolution, making it match."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.bundle.manifest import Model
from caflow_runtime.errors import InputError
from caflow_runtime.flow.tiles import Floats
from caflow_runtime.image import Image

CUBIC = -0.5
"""The parameter of Keys' kernel that Pillow and PyTorch reduce with."""
MOST_PROJECTIONS = 200
"""Ten are enough but where pixels are clipped at 0 or 255."""
CLOSE_ENOUGH = 0.2
"""Grey levels: less than the rounding that follows."""
EXACT = 100.0
"""dB: what PSNR is given as where there is no difference."""


def consistency(model: Model, image: Image, condition: Image) -> float:
    """PSNR in dB between `image`, degraded as in training, and `condition`; for super-resolution the LR-PSNR.

    Of an inpainted image only the known pixels count, those that are not black in the condition.

    Raises:
        InputError: for a task that does not say how its conditions are made.
    """
    if model.task == "inpainting":
        known = condition.any(2)
        return psnr(image[known], condition[known])
    degraded = degrade(model, image)
    return psnr(degraded, condition if model.task == "super-resolution" else _grey(condition))


def degrade(model: Model, target: Image) -> Image:
    """The condition of a target, (H, W, 3) uint8, made as in training.

    Raises:
        InputError: for a task that does not say how, or that draws it, as holes are.
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
    raise InputError(f"the task {model.task!r} does not say how conditions are made of targets")


def project(model: Model, pixels: Floats, condition: Image) -> Image:
    """The image nearby whose reduction is the condition, for super-resolution: `projected`, rounded."""
    return np.asarray(np.rint(projected(model, pixels, condition)), np.uint8)


def projected(model: Model, pixels: Floats, condition: Image) -> Floats:
    """Values nearby whose reduction is the condition, for super-resolution: back-projection, within 0…255.

    A condition that no image reduces to, such as white noise, is approached as far as it goes: ask `consistency`.

    Arguments:
        pixels: (H, W, 3) float32 continuous pixel values of a sample.

    Returns:
        (H, W, 3) float32, where an integer stands for itself.
    """
    down_filter = model.task_settings["down_filter"]
    # Integer w stands for [w, w + 1).
    image: NDArray[Any] = np.clip(pixels - np.float32(0.5), 0, 255)
    for _ in range(MOST_PROJECTIONS):
        missing = condition - reduce(image, model.scale, down_filter)
        if np.abs(missing).max() < CLOSE_ENOUGH:
            break
        image = np.clip(image + enlarge(missing, model.scale), 0, 255)
    return image


def reduce(image: NDArray[Any], scale: int, down_filter: str) -> Floats:
    """(H, W, 3) to (H/scale, W/scale, 3) float32 through the antialiased filter, as Pillow and PyTorch do it."""
    taps = _taps(scale, down_filter)
    before = len(taps) // 2 - scale // 2
    anchor = (before, before)
    size = {"ddepth": cv2.CV_32F, "borderType": cv2.BORDER_CONSTANT}
    weighted = cv2.sepFilter2D(image, kernelX=taps, kernelY=taps, anchor=anchor, **size)  # type: ignore[call-overload]
    # At the border the weights of what is missing are shared out among the others.
    rows, columns = (_weight_inside(side, scale, taps, before) for side in image.shape[:2])
    reduced: Floats = weighted[::scale, ::scale] / np.outer(rows, columns)[..., None].astype(np.float32)
    return reduced


def enlarge(small: Floats, scale: int) -> Floats:
    """(h, w, 3) to (scale h, scale w, 3) float32, bicubic."""
    size = (scale * small.shape[1], scale * small.shape[0])
    large: Floats = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    return large


def enlarge_image(condition: Image, scale: int) -> Image:
    """The same of integers: what a result is compared with, or replaced by."""
    large = enlarge(condition.astype(np.float32), scale)
    return np.asarray(np.clip(np.rint(large), 0, 255), np.uint8)


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Of values in 0…255, in dB; `EXACT` where they are equal."""
    error = float(np.square(np.asarray(a, np.float64) - b).mean()) if a.size else 0.0
    return min(EXACT, 10 * np.log10(255**2 / error)) if error > 0 else EXACT


def _grey(image: Image) -> Image:
    """Luma in three equal channels."""
    return np.repeat(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)[..., None], 3, 2)


def _taps(scale: int, down_filter: str) -> Floats:
    """Of the pixels around a reduced one, symmetric, summing to 1."""
    support = {"bicubic": 2, "bilinear": 1}[down_filter] * scale
    x = np.abs((np.arange(2 * support) + 0.5 - support) / scale)
    if down_filter == "bilinear":
        taps = 1 - x
    else:
        near = (CUBIC + 2) * x**3 - (CUBIC + 3) * x**2 + 1
        far = CUBIC * (x**3 - 5 * x**2 + 8 * x - 4)
        taps = np.where(x < 1, near, far)
    return np.asarray(taps / taps.sum(), np.float32)


def _weight_inside(side: int, scale: int, taps: Floats, before: int) -> Floats:
    """For each reduced pixel the sum of those taps that lie in the image."""
    inside = np.convolve(np.ones(side), taps[::-1].astype(np.float64))
    weights: Floats = inside[len(taps) - 1 - before :][:side:scale].astype(np.float32)
    return weights
