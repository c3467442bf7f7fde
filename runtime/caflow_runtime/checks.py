"""Checks of the caller's arguments. Values are never converted silently."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from caflow_runtime.errors import InputError

LARGEST_WORD = 2**32 - 1
"""Largest seed, frame and index of a sample."""
MAX_SAMPLES = 2**20
"""Largest number of samples of an image, in Python and in C++."""
MAX_SHOWN = 200
"""Maximum number of characters of a value in a message."""


def check_share(name: str, value: float, is_open: bool = False) -> None:
    """Check that a value is a number from 0 to 1, or above 0 and below 1 if `is_open`.

    Raises:
        InputError: if the check fails.
    """
    if not is_number(value) or not (0 < value < 1 if is_open else 0 <= value <= 1):
        wanted = "above 0 and below 1" if is_open else "from 0 to 1"
        raise InputError(f"{name} must be {wanted}; got {shown(value)}")


def check_integer(name: str, value: int, low: int, high: int = LARGEST_WORD) -> None:
    """Check that a value is an integer, of Python or NumPy, from `low` to `high`.

    Raises:
        InputError: if the check fails.
    """
    if not is_integer(value) or not low <= value <= high:
        raise InputError(f"{name} must be an integer from {low} to {high}; got {shown(value)}")


def check_switch(name: str, value: bool) -> None:
    """Check that a value is True or False. Other values are not accepted, because the text "no" would count as True.

    Raises:
        InputError: if the check fails.
    """
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} must be True or False; got {shown(value)}")


def check_callback(name: str, value: Any) -> None:
    """Check that a value is a function, or None.

    Raises:
        InputError: if the check fails.
    """
    if value is not None and not callable(value):
        raise InputError(f"{name} must be a function or None; got {shown(value)}")


def checked_path(name: str, value: str | os.PathLike[str]) -> Path:
    """Return the path of a file or folder.

    Raises:
        InputError: if the value is not a path: a text, or a `Path` or the like.
    """
    if not isinstance(value, str | os.PathLike):
        raise InputError(f"{name} must be a path, a str or a Path; got {shown(value)}")
    return Path(value)


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number in the range of a float, and neither a bool nor text."""
    if isinstance(value, np.floating):
        value = float(value)
    return is_real(value) and bool(abs(value) <= sys.float_info.max)  # False for NaN


def is_integer(value: Any) -> bool:
    """Return whether a value is an integer of Python or NumPy, and not a bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Return whether a value is a number of Python or NumPy, finite or not, and not a bool."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """Return a value of any type as text for a message, shortened to `MAX_SHOWN` characters."""
    try:
        text = repr(value)
    except ValueError:  # Python does not print integers of more than 4300 digits
        return f"{type(value).__name__} of thousands of digits"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
