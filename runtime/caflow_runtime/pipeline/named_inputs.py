"""Named inputs beside the image, such as the mask of an inpainting model, and the condition that they make with it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from caflow_runtime.bundle.manifest import Model
from caflow_runtime.checks import shown
from caflow_runtime.errors import InputError
from caflow_runtime.image_arrays import Image


def check_takes(model: Model, name: str) -> None:
    """Check that a model has an input of this name.

    Raises:
        InputError: if it has none.
    """
    names = [port.name for port in model.inputs]
    if name in names:
        return
    has = f"it takes {' and '.join(names)}" if names else "it takes the image alone"
    found = "" if model.can_be_tiled else ", and finds the hole in the middle of it by itself"
    raise InputError(
        f"this model, of the task {model.task!r}, has no input {shown(name)}: {has}{found}; omit it, or use another "
        "model"
    )


def prepare_condition(model: Model, image: Image, inputs: Mapping[str, Any]) -> Image:
    """Return the condition, (H, W, 3) uint8, that an image and its named inputs make. An input may be missing.

    Arguments:
        image: (H, W, 3) uint8 RGB.
        inputs: arrays by name. "mask" is (H, W) bool, True for the pixels to fill in.

    Raises:
        InputError: if the model has no input of a name, or an array is not valid.
    """
    for name, mask in inputs.items():
        check_takes(model, name)  # the only input is a mask, and its only preparation is "black"
        _check_mask(mask, image)
        image = np.where(mask[..., None], np.uint8(0), image)
    return image


def _check_mask(mask: Any, image: Image) -> None:
    wanted = f"mask: expected a bool array of the image's size, {image.shape[:2]}"
    if not isinstance(mask, np.ndarray):
        raise InputError(f"{wanted}; got {type(mask).__name__}")
    if mask.dtype != np.bool_ or mask.shape != image.shape[:2]:
        raise InputError(f"{wanted}; got {mask.dtype} of shape {mask.shape}")
