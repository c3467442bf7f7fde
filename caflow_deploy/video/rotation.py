"""Conversion of decoded frames to pixels that are upright, and not mirrored."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_deploy.video.opening import accurate_conversion
from caflow_deploy.video.side_data import side_data_of
from caflow_runtime.image_arrays import Image


class Upright:
    """Converts the frames of a video to pixels, turned and mirrored as their display matrices say.

    PyAV keeps each frame whose side data were read until Python's garbage collector runs, which may be thousands of
    frames later. So the matrix is read once for each rotation.
    """

    def __init__(self) -> None:
        self._displays: dict[int, NDArray[np.int64]] = {}

    def __call__(self, frame: Any, matrix: str | None, pixel_format: str = "rgb24") -> Image:
        """Return a PyAV frame as (h, w, 3) uint8 RGB, or as (h, w, 4) RGBA if `pixel_format` is rgba.

        Arguments:
            matrix: colour matrix, as for `pixels_of`.
        """
        image = pixels_of(frame, matrix, pixel_format)
        if frame.rotation not in self._displays:
            self._displays[frame.rotation] = _display(frame)
        right, down = self._displays[frame.rotation]
        if _is_on_its_side(right):
            image, right, down = image.swapaxes(0, 1), down, right
        # A negative direction counts the pixels of a line, or the lines, from the other end.
        shown = image[:: -1 if down[1] < 0 else 1, :: -1 if right[0] < 0 else 1]
        return np.ascontiguousarray(shown)


def pixels_of(frame: Any, matrix: str | None, pixel_format: str = "rgb24") -> Image:
    """Return the pixels of a PyAV frame as they are stored, (h, w, 3) uint8 RGB, or (h, w, 4) if the format is rgba.

    Arguments:
        matrix: colour matrix, by PyAV's name; None is the matrix in the frame's tag, or BT.601 without a tag.
    """
    colours = {"src_colorspace": matrix} if matrix else {}
    image: NDArray[np.uint8] = frame.reformat(
        format=pixel_format, interpolation=accurate_conversion(), **colours
    ).to_ndarray()
    return np.ascontiguousarray(image)  # FFmpeg pads the lines of most widths


def is_on_its_side(frame: Any) -> bool:
    """Return whether the lines of a PyAV frame are shown as columns."""
    right, _ = _display(frame)
    return _is_on_its_side(right)


def has_alpha(pixel_format: Any) -> bool:
    """Return whether a PyAV pixel format has an alpha channel."""
    return any(component.is_alpha for component in pixel_format.components)


def _display(frame: Any) -> NDArray[np.int64]:
    """Return the directions, (x, y) on the screen, in which the pixels of a line and the lines follow each other."""
    side_data = side_data_of(frame)
    if side_data is None:  # PyAV still knows the angle, but not whether the frame is mirrored
        cos, sin = (round(f(math.radians(frame.rotation))) for f in (math.cos, math.sin))
        return np.array([[cos, -sin], [sin, cos]])
    found = side_data.get("DISPLAYMATRIX")
    if found is None:
        return np.array([[1, 0], [0, 1]])
    return np.frombuffer(bytes(found), np.int32).reshape(3, 3)[:2, :2].astype(np.int64)


def _is_on_its_side(right: NDArray[np.int64]) -> bool:
    return bool(abs(right[1]) > abs(right[0]))
