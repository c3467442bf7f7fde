"""The pixels of one row: continuous, or as the integers of an image, which are a quarter of the bytes.

On a GPU they stay where they are until somebody asks: of N samples, mostly for the best one's integers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.flow.scan import Array
from caflow_runtime.image import Image

LINES_AT_ONCE = 256
DEEP = 257
"""What an integer of 8 bits is multiplied by to become one of 16 bits."""


class Pixels(Protocol):
    """Of a target of H × W pixels."""

    @property
    def is_finite(self) -> bool:
        """All of them."""

    def floats(self) -> NDArray[np.float32]:
        """(H, W, 3) continuous pixel values."""

    def integers(self) -> Image:
        """(H, W, 3): rounded down, as the cell [w, w + 1) stands for w, and clamped to 0…255."""

    def cropped(self, height: int, width: int) -> "Pixels":
        """Without what is below or right of that."""


@dataclass(frozen=True)
class HostPixels:
    """On the host."""

    values: NDArray[np.float32]

    @cached_property
    def is_finite(self) -> bool:
        return all(np.isfinite(self.values[part]).all() for part in _strips(len(self.values)))

    def floats(self) -> NDArray[np.float32]:
        return self.values

    def integers(self) -> Image:
        image = np.empty(self.values.shape, np.uint8)
        for part in _strips(len(image)):
            image[part] = np.clip(self.values[part], 0, 255).astype(np.uint8)
        return image

    def cropped(self, height: int, width: int) -> "HostPixels":
        return HostPixels(self.values[:height, :width])


def deep_integers(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """(H, W, 3) continuous pixel values as 16 bits: the cell [w, w + 1) becomes the 257 integers around 257 w, which
    become w when they are rounded to 8 bits."""
    deep = np.empty(values.shape, np.uint16)
    for part in _strips(len(deep)):
        deep[part] = np.clip(np.floor(DEEP * values[part]) - DEEP // 2, 0, 65535)
    return deep


def _strips(height: int) -> Iterator[slice]:
    """Lines of an image, some at once: what is made of floats on the way is as large as they are."""
    return (slice(top, top + LINES_AT_ONCE) for top in range(0, height, LINES_AT_ONCE))


@dataclass(frozen=True)
class DevicePixels:
    """A row of what ran together, on the device."""

    graphs: Graphs
    rows: Array
    """(R, h, w, 3), with padding on the right and below."""
    row: int
    is_whole_finite: bool
    """With its padding."""
    height: int | None = None
    """That of the target, and with it the width; None with all padding."""
    width: int | None = None

    @cached_property
    def is_finite(self) -> bool:
        if self.is_whole_finite or self.height is None:
            return self.is_whole_finite
        return HostPixels(self.floats()).is_finite  # what is not finite may lie in the padding

    def floats(self) -> NDArray[np.float32]:
        return self._inside(self.graphs.backend.row_to_host(self.rows, self.row))

    def integers(self) -> Image:
        backend = self.graphs.backend
        try:
            alone = backend.take(self.rows, np.array([self.row]))
            integers = backend.to_host(self.graphs["to_image"]({"pixels": alone})["integers"])
        except MemoryError:  # who asks for it halves nothing, and this takes none of the device's
            return HostPixels(self.floats()).integers()
        return np.ascontiguousarray(self._inside(integers[0]))

    def cropped(self, height: int, width: int) -> "DevicePixels":
        return replace(self, height=height, width=width)

    def _inside(self, whole: NDArray[Any]) -> NDArray[Any]:
        return whole[: self.height, : self.width]
