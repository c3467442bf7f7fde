"""Images as arrays, and checks of the caller's images. Values are never converted silently."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.errors import InputError

Image = NDArray[np.uint8]
"""One image: (H, W, 3) uint8 RGB."""
Images = NDArray[np.uint8] | Sequence[NDArray[np.uint8]]
"""Images that callers can pass: one array (B, H, W, 3) or (H, W, 3), or a sequence of arrays (H, W, 3) of any sizes,
uint8 RGB."""


def as_images(images: Images, what: str, channels: int = 3) -> list[Image]:
    """Return a batch as a list of (H, W, channels) uint8 arrays.

    Arguments:
        what: name of the argument in messages.

    Raises:
        InputError: if the argument is not valid.
    """
    if isinstance(images, np.ndarray):
        images = [images] if images.ndim < 4 else list(images) if images.ndim == 4 else [images]
    if not isinstance(images, list | tuple):
        raise InputError(
            f"{what}: expected a uint8 array (B, H, W, {channels}) or a list of arrays (H, W, {channels}); got "
            f"{type(images).__name__}"
        )
    if not len(images):
        raise InputError(f"{what}: expected at least one image; got none")
    return [as_image(image, f"{what}[{k}]", channels) for k, image in enumerate(images)]


def as_image(image: Any, what: str, channels: int = 3) -> Image:
    """Return one image as a contiguous (H, W, channels) uint8 array.

    Arguments:
        what: name of the argument in messages.
        channels: 3 for RGB; 4 for a condition with a mask, as `Pipeline.prepare` returns it.

    Raises:
        InputError: if the argument is not valid.
    """
    wanted = f"{what}: expected an array (H, W, {channels}) of uint8" + (" RGB" if channels == 3 else "")
    if not isinstance(image, np.ndarray):
        raise InputError(f"{wanted}; got {type(image).__name__}: convert it with np.asarray")
    got = f"got {image.dtype} of shape {image.shape}"
    if image.ndim == 2 and channels == 3:
        raise InputError(f"{wanted}; {got}: convert a grey image to RGB with np.repeat(image[..., None], 3, axis=2)")
    if image.ndim != 3 or image.shape[2] != channels:
        hint = ": channels must be the last axis, without an alpha channel" if image.ndim == 3 else ""
        hint = ": Pipeline.prepare makes it from an image and its mask or hints" if channels > 3 else hint
        raise InputError(f"{wanted}; {got}{hint}")
    if image.dtype != np.uint8:
        raise InputError(f"{wanted}; {got}: {_conversion(image.dtype)}")
    if 0 in image.shape:
        raise InputError(f"{wanted} with at least one pixel; {got}")
    return np.ascontiguousarray(image)


def _conversion(dtype: np.dtype[Any]) -> str:
    """Return how to convert pixels of a type to uint8. A cast alone would give black or wrapped pixels."""
    if dtype.kind == "f":
        return (
            "multiply values from 0 to 1 by 255, and convert them with np.clip(np.rint(image), 0, 255).astype(np.uint8)"
        )
    if dtype == np.uint16:
        return "convert values from 0 to 65535 with np.rint(image / 257).astype(np.uint8)"
    return "scale its values to integers from 0 to 255, and convert it with image.astype(np.uint8)"


def check_pairs(targets: list[Image], conditions: list[Image], scale: int) -> None:
    """Check that each target has a condition, and `scale` times its sides.

    Raises:
        InputError: if the argument is not valid.
    """
    if len(targets) != len(conditions):
        raise InputError(
            f"conditions: expected one for each target; got {len(targets)} targets and {len(conditions)} conditions"
        )
    for k, (target, condition) in enumerate(zip(targets, conditions, strict=True)):
        check_pair(f"target[{k}]", target, condition, scale)


def check_pair(name: str, target: Image, condition: Image, scale: int) -> None:
    """Check that a target has `scale` times the sides of its condition.

    Arguments:
        name: name of the target in messages.

    Raises:
        InputError: if the argument is not valid.
    """
    mismatch = mismatch_of(target, condition, scale)
    if mismatch is not None:
        raise InputError(f"{name}: {mismatch}")


def mismatch_of(target: Image, condition: Image, scale: int) -> str | None:
    """Return why the sizes of a target and a condition do not fit together, and what to do; None if they do."""
    wanted = (scale * condition.shape[0], scale * condition.shape[1])
    if target.shape[:2] == wanted:
        return None
    return (
        f"for a condition of {_sides(condition)} pixels, both sides must be {scale} times as long, "
        f"{wanted[1]}×{wanted[0]}; got {_sides(target)}: crop or resize one of them"
    )


def _sides(image: Image) -> str:
    """Return the size of an image for messages: width×height."""
    return f"{image.shape[1]}×{image.shape[0]}"
