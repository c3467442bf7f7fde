"""Staging memory: memory of the host through which arrays are copied to the GPU and back."""

import ctypes
import math
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Staging:
    """Pinned host memory, which the GPU can copy from and to directly. Only one thread may use it at a time."""

    def __init__(self, pinned: Any) -> None:
        self._pinned = pinned
        self._lock = Lock()
        self._buffer: Any = None

    def __enter__(self) -> "Staging":
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def view(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the memory as a NumPy array of this shape. Allocate more memory first if there is too little."""
        size = math.prod(shape) * dtype.itemsize
        if self._buffer is None or self._buffer.size < size:
            self._buffer = self._pinned.allocate(max(1, size))
        memory = (ctypes.c_uint8 * size).from_address(int(self._buffer.handle))
        return np.ctypeslib.as_array(memory).view(dtype).reshape(shape)

    def part(self, size: int) -> Any:
        """Return the first `size` bytes of the memory. Call `view` first, which makes the memory large enough."""
        from cuda.core import Buffer

        return Buffer.from_handle(int(self._buffer.handle), size, owner=self._buffer)
