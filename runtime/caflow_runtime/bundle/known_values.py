"""Which values of a target its condition contains, for models that complete images."""

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.bundle.manifest import Model
from caflow_runtime.errors import InputError
from caflow_runtime.image_arrays import Image

IS_KNOWN = 128
"""Smallest value of the mask, the fourth channel of a condition, where values of the target are known."""
VALUES = 3
"""Number of values of a pixel of a target."""


def known_values(condition: Image, model: Model) -> NDArray[np.bool_] | None:
    """Return which values of the target are those of the condition's first channels, (h, w, 3) bool.

    None if the model draws all values.

    Raises:
        InputError: if the condition has no mask, as the frames of a video.
    """
    if model.condition_channels == VALUES:
        return None
    if condition.shape[2] != model.condition_channels:
        raise InputError("this model completes images, and needs a mask or hints: see Pipeline.prepare")
    known = np.repeat(condition[..., VALUES:] >= IS_KNOWN, VALUES, axis=2)
    known[..., model.known_channels] = True
    return known


def drawn_pixels(condition: Image, model: Model) -> NDArray[np.bool_] | None:
    """Return which pixels have a value that the model draws, (h, w) bool; None if it draws all values."""
    known = known_values(condition, model)
    return None if known is None else np.asarray(~known.all(axis=2))


def dims_of(condition: Image, model: Model) -> int:
    """Return how many values the model draws for a condition. Bits per dimension are per such value."""
    known = known_values(condition, model)
    if known is None:
        return condition.size * model.scale**2
    return int(known.size - known.sum())


def with_known(target: Image, condition: Image, model: Model) -> Image:
    """Return a target, (h, w, 3) uint8, with the known values of its condition in place of its own.

    Files in lossy formats change known values. That change must not count in the likelihood of what was drawn.
    """
    known = known_values(condition, model)
    return target if known is None else np.where(known, condition[..., :VALUES], target)


def completed(values: NDArray[np.float32], condition: Image, model: Model) -> NDArray[np.float32]:
    """Return continuous pixel values, (h, w, 3) float32, with all known values in the middle of their intervals."""
    known = known_values(condition, model)
    return values if known is None else np.where(known, condition[..., :VALUES] + np.float32(0.5), values)
