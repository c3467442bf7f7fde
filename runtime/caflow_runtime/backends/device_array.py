"""Arrays in GPU memory, which other libraries can use without a copy."""

import math
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

NO_STREAM, LEGACY_STREAM = -1, 1
"""Values of DLPack's argument `stream`: no stream, and the legacy default stream, which None also means."""


class DeviceArray:
    """Contiguous array in GPU memory, which other libraries can use without a copy.

    The memory is freed after all work that is queued on the compute stream when the array is deleted.

    A library that imports the array by DLPack passes its stream. The memory is then also kept until the work on that
    stream is finished, so the stream must exist until then. A library that uses `__cuda_array_interface__` must finish
    its work before the array is deleted.
    """

    def __init__(self, buffer: Any, shape: tuple[int, ...], dtype: DTypeLike, stream: Any) -> None:
        self.buffer = buffer
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._stream = stream

    @property
    def address(self) -> int:
        """Address of the first element in GPU memory."""
        return int(self.buffer.handle)

    @property
    def nbytes(self) -> int:
        """Size of all elements, in bytes."""
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

        if wishes.get("dl_device") == self.__dlpack_device__():
            del wishes["dl_device"]  # cuda-core refuses this argument, even if it is the device of the array
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
    """Reference to an array that another library has imported by DLPack.

    When the library releases it, the compute stream waits for the library's stream. So the memory is freed after the
    library's work.
    """

    def __init__(self, array: DeviceArray, consumer: Any, stream: Any) -> None:
        self.array = array
        self.consumer = consumer
        self.stream = stream

    def __del__(self) -> None:
        with suppress(Exception):  # when Python exits, the streams may no longer exist
            self.stream.device.set_current()
            self.stream.wait(self.consumer)


def part_of(array: DeviceArray, start: int, size: int) -> Any:
    """Return a buffer of `size` bytes of an array, from byte `start` on, without a copy."""
    from cuda.core import Buffer

    return Buffer.from_handle(array.address + start, size, owner=array.buffer)
