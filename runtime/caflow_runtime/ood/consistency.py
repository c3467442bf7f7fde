"""Consistency of a result with its condition: the result is degraded again and compared with the condition.

The bundle's graph `degrade` repeats the degradation. A result of a model that enlarges can also be changed so that it
matches its condition (`projected`).
"""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.bundle.manifest import DEGRADE, Manifest
from caflow_runtime.errors import InputError
from caflow_runtime.flow.level_chain import Graph
from caflow_runtime.flow.tiles import Floats
from caflow_runtime.image_arrays import Image

MAX_PROJECTIONS = 200
"""Maximum number of iterations. About ten are enough unless pixels are clipped at 0 or 255."""
CLOSE_ENOUGH = 0.2
"""Largest accepted difference in grey levels. It is smaller than the error of the rounding that follows."""
EXACT = 100.0
"""PSNR in dB that is reported for equal images."""


class Consistency:
    """Compares results of a model with their conditions. Any thread may use it."""

    def __init__(self, graphs: Mapping[str, Graph], manifest: Manifest) -> None:
        """Use the graph `degrade`, which may be missing. Methods that need it then raise an InputError."""
        self._graphs = graphs
        self._manifest = manifest
        self._scale = manifest.model.scale

    def psnr(self, image: Image, condition: Image) -> float:
        """Return the PSNR in dB between the condition and `image` degraded as in training (LR-PSNR for enlargement).

        Pixels of a hole count as equal. What the model does not see of the condition, such as colours, is not compared.

        Arguments:
            image: (H, W, 3) uint8 RGB, a result of the model or another target.
            condition: (H / scale, W / scale, 3) uint8 RGB.

        Returns:
            The PSNR; at most 100, which is also the value of equal images.

        Raises:
            InputError: if the degradation of this model cannot be repeated.
        """
        return psnr(_rounded(self._degrade(image, condition)), self._seen(condition))

    def degraded(self, target: Image) -> Image:
        """Return the condition of a target, (h, w, 3) uint8, made as in training.

        Raises:
            InputError: if the model does not define the degradation, or it is random, such as the holes of inpainting.
        """
        if not self._manifest.has_consistency or self._manifest.reads_condition:
            raise InputError(
                f"the task {self._manifest.model.task!r} does not define how to make a condition from a target: "
                "calibrate with pairs, in a folder with the subfolders A (conditions) and B (targets)"
            )
        return _rounded(self._degrade(target, target))

    def projected(self, pixels: Floats, condition: Image) -> Floats:
        """Return pixel values near the sample whose reduction is the condition. For models that enlarge.

        The values are found by back-projection and stay within 0…255. Some conditions, such as white noise, are not the
        reduction of any image. The result then matches only approximately; `psnr` measures how well.

        Arguments:
            pixels: (H, W, 3) float32 continuous pixel values of a sample.
            condition: (H / scale, W / scale, 3) uint8 RGB.

        Returns:
            (H, W, 3) float32 grey levels, not continuous pixel values: an integer stands for itself, not for an
            interval.

        Raises:
            InputError: if the degradation of this model cannot be repeated.
        """
        # Continuous values in [w, w + 1) stand for the integer w, so the middle of the interval becomes w.
        image: Floats = np.clip(pixels - np.float32(0.5), 0, 255)
        seen = self._seen(condition)
        for _ in range(MAX_PROJECTIONS):
            missing = seen - self._degrade(image, condition)
            if np.abs(missing).max() < CLOSE_ENOUGH:
                break
            image = np.clip(image + enlarge(missing, self._scale), 0, 255)
        return image

    def _seen(self, condition: Image) -> Image:
        """Return what the model sees of a condition: colours only if it sees them, and no pixels that it fills."""
        if self._manifest.model.condition_color == "gray":
            return luma(condition)
        sees_all = self._scale > 1 or self._manifest.reads_condition
        return condition if sees_all else _rounded(self._degrade(condition, condition))

    def _degrade(self, target: NDArray[Any], condition: Image) -> Floats:
        """Return the condition of a target, (h, w, 3) float32, not rounded. Only random degradations read `condition`.

        Raises:
            InputError: if the degradation of this model cannot be repeated.
        """
        if not self._manifest.has_consistency:
            raise InputError(f"consistency: {self._manifest.without_consistency}")
        arrays = {"target": target, **({"condition": condition} if self._manifest.reads_condition else {})}
        found = self._graphs[DEGRADE]({name: array[None].astype(np.float32) for name, array in arrays.items()})
        return np.asarray(found["degraded"][0], np.float32)


def luma(image: Image) -> Image:
    """Return the luma of BT.601 in three equal channels, (H, W, 3) uint8, as models of grey images see it."""
    values = np.rint(image @ np.array([299, 587, 114]) / 1000).astype(np.uint8)
    return np.repeat(values[..., None], 3, 2)


def enlarge(small: Floats, scale: int) -> Floats:
    """Enlarge (h, w, 3) to (scale · h, scale · w, 3) float32 by bicubic interpolation."""
    size = (scale * small.shape[1], scale * small.shape[0])
    large: Floats = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    return large


def enlarge_image(condition: Image, scale: int) -> Image:
    """Return the condition enlarged bicubically, as uint8.

    It is a baseline for comparison, or a replacement for a rejected result.
    """
    return _rounded(enlarge(condition.astype(np.float32), scale))


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the PSNR in dB of two arrays of values in 0…255; `EXACT` if they are equal."""
    error = float(np.square(np.asarray(a, np.float64) - b).mean()) if a.size else 0.0
    return min(EXACT, 10 * np.log10(255**2 / error)) if error > 0 else EXACT


def _rounded(values: Floats) -> Image:
    return np.asarray(np.rint(np.clip(values, 0, 255)), np.uint8)
