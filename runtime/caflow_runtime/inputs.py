"""What a pipeline is given, checked: nothing is converted in silence."""

import sys
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.bundle.manifest import Model
from caflow_runtime.errors import InputError
from caflow_runtime.flow.noise import LARGEST_WORD

Image = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""
Images = NDArray[np.uint8] | Sequence[NDArray[np.uint8]]
"""(B, H, W, 3) or (H, W, 3) uint8 RGB, or (H, W, 3) arrays of any sizes."""

MOST_SHOWN = 200
"""Characters of a value in a message."""

Rank = Literal["likelihood", "consistency", "typical"]
"""What makes one sample better than another."""


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


def as_noise(noise: Sequence[Sequence[NDArray[Any]]], count: int) -> list[list[NDArray[np.float32]]]:
    """The noise of `count` images as float32: an array for each level of each.

    Raises:
        InputError
    """
    wanted = f"noise: wanted for {count} images a list of float arrays each, as encode gives it"
    if not isinstance(noise, list | tuple) or not all(isinstance(of_image, list | tuple) for of_image in noise):
        raise InputError(f"{wanted}, got {shown(noise)}")
    if len(noise) != count:
        raise InputError(f"{wanted}, got it for {len(noise)}")
    try:
        return [[np.asarray(z, np.float32) for z in of_image] for of_image in noise]
    except (TypeError, ValueError) as error:
        raise InputError(f"{wanted}, got what is no array: {error}") from None


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
        wanted = (scale * condition.shape[0], scale * condition.shape[1])
        if target.shape[:2] != wanted:
            raise InputError(
                f"target[{k}]: for a condition of {_sides(condition)} wanted {scale} times its sides, "
                f"{wanted[0]}×{wanted[1]}, got {_sides(target)}: crop or resize one of them"
            )


def check_share(name: str, value: float, is_open: bool = False) -> None:
    """Check that a value is a share: a number from 0 to 1, without these two where `is_open`.

    Raises:
        InputError
    """
    if not is_number(value) or not (0 < value < 1 if is_open else 0 <= value <= 1):
        wanted = "between 0 and 1" if is_open else "from 0 to 1"
        raise InputError(f"{name}: wanted a share {wanted}, got {shown(value)}")


def check_integer(name: str, value: int, low: int, high: int = LARGEST_WORD) -> None:
    """Check that a value is an integer, of Python or NumPy, from `low` to `high`.

    Raises:
        InputError
    """
    if not _is_integer(value) or not low <= value <= high:
        raise InputError(f"{name}: wanted an integer from {low} to {high}, got {shown(value)}")


def check_switch(name: str, value: bool) -> None:
    """Check that a value is True or False: the text "no" would count as True.

    Raises:
        InputError
    """
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name}: wanted True or False, got {shown(value)}")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that a float can hold, and neither a bool nor text."""
    if isinstance(value, np.floating):
        value = float(value)
    return _is_real(value) and bool(abs(value) <= sys.float_info.max)  # False for NaN


def shown(value: Any) -> str:
    """A value of any kind as it appears in a message, shortened."""
    try:
        text = repr(value)
    except ValueError:  # Python does not print integers of more than 4300 digits
        return f"{type(value).__name__} of thousands of digits"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def check_draw(
    model: Model,
    n: int,
    temperature: float | Sequence[float],
    seed: int,
    frame: int,
    keep: Sequence[int] | None,
    rank: str,
    consistent: bool,
) -> None:
    """The arguments of a draw.

    Raises:
        InputError
    """
    levels = model.levels
    check_integer("n", n, 1)
    per_level(temperature, levels)
    check_integer("seed", seed, 0)
    check_integer("frame", frame, 0)
    if not isinstance(rank, str) or rank not in get_args(Rank):
        raise InputError(f"rank: wanted one of {', '.join(get_args(Rank))}, got {shown(rank)}")
    check_switch("consistent", consistent)
    if rank == "consistency" and model.task == "image-to-image":
        raise InputError(f"rank 'consistency': the task {model.task!r} does not say how its conditions are made")
    if consistent and model.task != "super-resolution":
        raise InputError(f"consistent results are for super-resolution, this is a model of {model.task!r}")
    if keep is None:
        return
    counts = list(keep) if isinstance(keep, Sequence) else [keep]
    falls = all(_is_integer(k) and k >= 1 for k in counts) and counts == sorted(counts, reverse=True)
    if len(counts) != levels or not falls or counts[0] != n:
        raise InputError(
            f"keep: wanted {levels} numbers of samples, one per level from n = {n} down, such as "
            f"{(n, *[max(1, n // 2)] * (levels - 1))}, got {shown(tuple(counts))}"
        )
    if rank != "likelihood":
        raise InputError(f"keep: samples are dropped by their likelihood, so wanted rank 'likelihood', got {rank!r}")


def per_level(temperature: float | Sequence[float], levels: int) -> list[float]:
    """One temperature for each level.

    Raises:
        InputError
    """
    found: Any = temperature.tolist() if isinstance(temperature, np.ndarray) else temperature
    values = list(found) if isinstance(found, list | tuple) else [found]
    if len(values) not in (1, levels) or not all(_is_real(value) for value in values):
        raise InputError(f"temperature: wanted a number, or {levels} of them, one per level, got {shown(temperature)}")
    if not all(is_number(value) and value >= 0 for value in values):
        raise InputError(f"temperature: wanted finite values of 0 or more, got {shown(temperature)}")
    numbers = [float(value) for value in values]
    return numbers * levels if len(numbers) == 1 else numbers


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


def _sides(image: Image) -> str:
    return f"{image.shape[0]}×{image.shape[1]}"


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
