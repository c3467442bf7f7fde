"""Named inputs beside the image, a mask or hints of colour, and the condition that they make with it."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caflow_runtime.bundle.manifest import Model
from caflow_runtime.checks import shown
from caflow_runtime.completion import color_hints
from caflow_runtime.completion.color_space import recolored, rgb_to_ycbcr
from caflow_runtime.completion.filling import fill
from caflow_runtime.errors import InputError
from caflow_runtime.image_arrays import Image

KNOWN, DRAWN = np.uint8(255), np.uint8(0)
"""Values of the mask of a condition."""


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


def prepare_condition(model: Model, image: Image, inputs: Mapping[str, Any], seed: int = 0) -> Image:
    """Return the condition, (h, w, 3 or 4) uint8, that an image and its named inputs make. An input may be missing.

    Arguments:
        image: (H, W, 3) uint8 RGB.
        inputs: arrays by name, as in `Pipeline.prepare`.
        seed: seed of the first filling of a hole.

    Raises:
        InputError: if the model has no input of a name, or an array is not valid.
    """
    for name in inputs:
        check_takes(model, name)
    if "mask" in inputs:
        _check(inputs["mask"], "mask", np.bool_, image.shape[:2])
    if "hints" in inputs:
        _check(inputs["hints"], "hints", np.uint8, (*image.shape[:2], 4))
    how = model.inputs[0].preparation if model.inputs else None
    if how == "propagate":
        return _with_hints(model, image, inputs.get("hints"))
    if how is None:
        return image
    hole = inputs.get("mask", np.zeros(image.shape[:2], bool))
    filled = fill(image, hole, seed) if hole.any() else image
    return np.dstack([filled, np.where(hole, DRAWN, KNOWN)])


def target_of(model: Model, image: Image) -> Image:
    """Return the target, (h, w, 3) uint8, that a model would have to draw for its result to be this image.

    Arguments:
        image: (H, W, 3) uint8 RGB.
    """
    return image if model.color_space == "rgb" else rgb_to_ycbcr(_reduced(image, model.reduction))


def finish(model: Model, image: NDArray[Any], target: NDArray[Any]) -> NDArray[Any]:
    """Return the result, (H, W, 3) RGB, that a target of a model makes together with the image.

    For models of chroma, it is the image's luma with the target's chroma, enlarged.

    Arguments:
        image: (H, W, 3) uint8 or uint16 RGB, the image from which the condition was prepared.
        target: (h, w, 3) of the same type, an image that the model drew.
    """
    height, width = image.shape[:2]
    wanted = (-(-height // model.reduction) * model.scale, -(-width // model.reduction) * model.scale, 3)
    if target.dtype != image.dtype or target.shape != wanted:
        raise InputError(
            f"drawn: expected {image.dtype} of shape {wanted} for an image of {width}×{height} pixels; got "
            f"{target.dtype} of shape {target.shape}"
        )
    if model.color_space == "rgb":
        return target
    return recolored(image, _enlarged(target[..., 1:], model.reduction)[:height, :width])


def _with_hints(model: Model, image: Image, hints: Image | None) -> Image:
    """Return luma, propagated chroma and the mask of the hints, (h, w, 4) uint8."""
    luma = rgb_to_ycbcr(_reduced(image, model.reduction))[..., 0]
    known, chroma = np.zeros(luma.shape, bool), np.zeros((*luma.shape, 2), np.uint8)
    if hints is not None:
        colours, known = color_hints.reduced_hints(_extended(hints, model.reduction), model.reduction)
        chroma = rgb_to_ycbcr(colours)[..., 1:]
    return np.dstack([luma, color_hints.propagate(luma, chroma, known), np.where(known, KNOWN, DRAWN)])


def _reduced(image: Image, factor: int) -> Image:
    """Return an image reduced by a factor, (h, w, 3) uint8. Sides that it does not divide are rounded up."""
    whole = _extended(image, factor)
    size = (whole.shape[1] // factor, whole.shape[0] // factor)
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8)


def _enlarged(chroma: NDArray[Any], factor: int) -> NDArray[Any]:
    """Return chroma enlarged by an even factor: bicubic, but within the range of the four nearest values.

    So a hint has its colour in the result too, whatever is around it.
    """
    size = (chroma.shape[1] * factor, chroma.shape[0] * factor)
    nearest = cv2.resize(chroma, size, interpolation=cv2.INTER_NEAREST)
    window = np.ones((factor + 1, factor + 1), np.uint8)
    bicubic = cv2.resize(chroma, size, interpolation=cv2.INTER_CUBIC)
    return np.clip(bicubic, cv2.erode(nearest, window), cv2.dilate(nearest, window))


def _extended(image: Image, multiple: int) -> Image:
    """Return an image whose sides are multiples of a number, with its last row and column repeated."""
    height, width = (-side % multiple for side in image.shape[:2])
    return np.pad(image, ((0, height), (0, width), (0, 0)), mode="edge")


def _check(array: Any, name: str, dtype: Any, shape: tuple[int, ...]) -> None:
    wanted = f"{name}: expected a {np.dtype(dtype)} array of the image's size, {shape}"
    if not isinstance(array, np.ndarray):
        raise InputError(f"{wanted}; got {type(array).__name__}")
    if array.dtype != dtype or array.shape != shape:
        raise InputError(f"{wanted}; got {array.dtype} of shape {array.shape}")
