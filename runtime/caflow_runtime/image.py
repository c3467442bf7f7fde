"""Images as arrays, and checks of those that callers give: nothing is converted in silence."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.errors import InputError

Image = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""
Images = NDArray[np.uint8] | Sequence[NDArray[np.uint8]]
"""(B, H, W, 3) or (H, W, 3) uint8 RGB, or (H, W, 3) arrays of any sizes."""


def as_images(images: Images, what: str) -> list[Image]:
    """A batch as a list of (H, W, 3) uint8 arrays.

    Raises:
        InputError
    """
    if isinstance(images, np.ndarray):
        images = [images] if images.ndim < 4 else list(images) if images.ndim == 4 else [images]
    if not isinstance(images, list | tuple):
        raise InputError(
            f"{what}: wanted a uint8 array (B, H, W, 3) or a list of (H, W, 3), got {type(images).__name__}"
        )
    if not len(images):
        raise InputError(f"{what}: wanted at least one image, got none")
    return [as_image(image, f"{what}[{k}]") for k, image in enumerate(images)]


def as_image(image: Any, what: str) -> Image:
    """One image, named `what` in messages.

    Raises:
        InputError
    """
    wanted = f"{what}: wanted (H, W, 3) uint8 RGB"
    if not isinstance(image, np.ndarray):
        raise InputError(f"{wanted}, got {type(image).__name__}: np.asarray makes an array of it")
    got = f"got {image.dtype} of shape {image.shape}"
    if image.ndim == 2:
        raise InputError(f"{wanted}, {got}: a grey image becomes RGB with np.repeat(image[..., None], 3, axis=2)")
    if image.ndim != 3 or image.shape[2] != 3:
        hint = ": channels come last, and alpha goes a separate way" if image.ndim == 3 else ""
        raise InputError(f"{wanted}, {got}{hint}")
    if image.dtype != np.uint8:
        raise InputError(f"{wanted}, {got}: bring it to integers from 0 to 255 first")
    if 0 in image.shape:
        raise InputError(f"{wanted} with at least one pixel, {got}")
    return np.ascontiguousarray(image)


def check_pairs(targets: list[Image], conditions: list[Image], scale: int) -> None:
    """Targets must be `scale` times their conditions.

    Raises:
        InputError
    """
    if len(targets) != len(conditions):
        raise InputError(
            f"wanted as many conditions as targets, got {len(targets)} targets, {len(conditions)} conditions"
        )
    for k, (target, condition) in enumerate(zip(targets, conditions, strict=True)):
        check_pair(f"target[{k}]", target, condition, scale)


def check_pair(name: str, target: Image, condition: Image, scale: int) -> None:
    """A target, called so in messages, must be `scale` times its condition.

    Raises:
        InputError
    """
    wanted = (scale * condition.shape[0], scale * condition.shape[1])
    if target.shape[:2] != wanted:
        raise InputError(
            f"{name}: for a condition of {_sides(condition)} wanted {scale} times its sides, "
            f"{wanted[0]}×{wanted[1]}, got {_sides(target)}: crop or resize one of them"
        )


def _sides(image: Image) -> str:
    return f"{image.shape[0]}×{image.shape[1]}"
