"""Pixels of one item: continuous values, or the integers of an image, which take a quarter of the memory.

On a GPU, pixels stay on the device until they are needed. Of N samples, usually only the integers of the best one are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.flow.level_chain import Array
from caflow_runtime.image_arrays import Image

LINES_AT_ONCE = 256
"""Number of image lines that are converted at once."""
DEEP = 257
"""Factor that converts 8-bit integers to 16-bit integers: 65535 / 255."""


@dataclass(frozen=True)
class HostPixels:
    """Pixels of one item in host memory."""

    values: NDArray[np.float32]
    """(H, W, 3) continuous pixel values."""

    @cached_property
    def is_finite(self) -> bool:
        """Whether all values are finite."""
        return all(np.isfinite(self.values[part]).all() for part in _strips(len(self.values)))

    def floats(self) -> NDArray[np.float32]:
        """Return the continuous pixel values, (H, W, 3) float32."""
        return self.values

    def integers(self) -> Image:
        """Return the image, (H, W, 3) uint8. Values are rounded down and clamped to 0…255.

        They are rounded down because the interval [w, w + 1) stands for w.
        """
        image = np.empty(self.values.shape, np.uint8)
        for part in _strips(len(image)):
            image[part] = np.clip(self.values[part], 0, 255).astype(np.uint8)
        return image

    def cropped(self, height: int, width: int) -> "HostPixels":
        """Return the pixels without the parts below `height` and to the right of `width`."""
        return HostPixels(self.values[:height, :width])


def deep_integers(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return (H, W, 3) continuous pixel values as 16-bit integers.

    The interval [w, w + 1) becomes the 257 integers around 257 w, which become w again when they are rounded to 8 bits.
    """
    deep = np.empty(values.shape, np.uint16)
    for part in _strips(len(deep)):
        deep[part] = np.clip(np.floor(DEEP * values[part]) - DEEP // 2, 0, 65535)
    return deep


def _strips(height: int) -> Iterator[slice]:
    """Yield slices of a few lines each, because the temporary floats of a strip take as much memory as its values."""
    return (slice(top, top + LINES_AT_ONCE) for top in range(0, height, LINES_AT_ONCE))


@dataclass(frozen=True)
class DevicePixels:
    """Pixels of one item on the device, where they are part of the array of all items of a run. As `HostPixels`."""

    graphs: Graphs
    items: Array
    """(R, h, w, 3) continuous pixel values of all items, with padding on the right and below."""
    item: int
    """Index of the item."""
    is_whole_finite: bool
    """Whether all values of the item are finite, including the padding."""
    height: int | None = None
    """Height of the target in pixels; None includes the padding."""
    width: int | None = None
    """Width of the target in pixels; None includes the padding."""

    @cached_property
    def is_finite(self) -> bool:
        if self.is_whole_finite or self.height is None:
            return self.is_whole_finite
        return HostPixels(self.floats()).is_finite  # perhaps only the padding is not finite

    def floats(self) -> NDArray[np.float32]:
        return self._inside(self.graphs.backend.item_to_host(self.items, self.item))

    def integers(self) -> Image:
        backend = self.graphs.backend
        try:
            alone = backend.take(self.items, np.array([self.item]))
            integers = backend.to_host(self.graphs["to_image"]({"pixels": alone})["integers"])
        except MemoryError:  # the caller cannot retry with less, but the host can convert without device memory
            return HostPixels(self.floats()).integers()
        return np.ascontiguousarray(self._inside(integers[0]))

    def cropped(self, height: int, width: int) -> "DevicePixels":
        return replace(self, height=height, width=width)

    def _inside(self, whole: NDArray[Any]) -> NDArray[Any]:
        return whole[: self.height, : self.width]


Pixels = HostPixels | DevicePixels
"""Pixels of one item, whose target has H × W pixels."""
