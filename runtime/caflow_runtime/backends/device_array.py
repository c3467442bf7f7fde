"""Arrays in the GPU's memory, and how other libraries take them."""

import math
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

NO_STREAM, LEGACY_STREAM = -1, 1
"""As DLPack means them; no stream at all means the legacy one."""


class DeviceArray:
    """A contiguous array in the GPU's memory; other libraries take it without a copy.

    Its memory is let go of with it, after what the computing stream was given until then, and what was done with it by
    a library that took it by DLPack, whose stream must be there as long. One that took it by `__cuda_array_interface__`
    must be done before.
    """

    def __init__(self, buffer: Any, shape: tuple[int, ...], dtype: DTypeLike, stream: Any) -> None:
        self.buffer = buffer
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._stream = stream

    @property
    def address(self) -> int:
        """In the GPU's memory."""
        return int(self.buffer.handle)

    @property
    def nbytes(self) -> int:
        """Of its elements."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "version": 3,
            "stream": int(self._stream.handle),
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self.buffer.__dlpack_device__()
        return device

    def __dlpack__(self, *, stream: int | None = None, **wishes: Any) -> Any:
        from cuda.core import Buffer, Stream
        from cuda.core.utils import StridedMemoryView

        self._stream.device.set_current()
        lent: _Lent | DeviceArray = self
        if stream == NO_STREAM:
            self._stream.sync()
        else:
            consumer = Stream.from_handle(stream or LEGACY_STREAM)
            consumer.wait(self._stream)
            lent = _Lent(self, consumer, self._stream)
        buffer = Buffer.from_handle(self.address, self.nbytes, owner=lent)
        return StridedMemoryView.from_buffer(buffer, self.shape, dtype=self.dtype).__dlpack__(stream=-1, **wishes)


class _Lent:
    """An array that another library has; its memory is freed when that library's stream is done with it, too."""

    def __init__(self, array: DeviceArray, consumer: Any, stream: Any) -> None:
        self.array = array
        self.consumer = consumer
        self.stream = stream

    def __del__(self) -> None:
        with suppress(Exception):  # where Python ends, all of it may be gone
            self.stream.device.set_current()
            self.stream.wait(self.consumer)


def part_of(array: DeviceArray, start: int, size: int) -> Any:
    """Bytes of an array."""
    from cuda.core import Buffer

    return Buffer.from_handle(array.address + start, size, owner=array.buffer)
