"""Imitates cuda.core.utils: views of arrays of other libraries, by objects that only the fakes understand.

Its name is that library's: `from cuda.core.utils import …` in the code under test finds the fake by it.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from fake_gpu.memory import MEMORY

from . import Buffer, Stream

NO_STREAM = -1


@dataclass
class Capsule:
    """A DLPack tensor: where it is, and what keeps it there."""

    ptr: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: Any


class StridedMemoryView:
    """An array without its data. Fakes hold contiguous arrays of the device alone."""

    strides: ClassVar[None] = None

    def __init__(self, ptr: int, shape: tuple[int, ...], dtype: Any, exporting_obj: Any) -> None:
        self.ptr = ptr
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.size = int(np.prod(shape))
        self.is_device_accessible = MEMORY.is_of_device(ptr)
        self.device_id = 0 if self.is_device_accessible else -1
        self.exporting_obj = exporting_obj

    @classmethod
    def from_any_interface(cls, obj: Any, stream_ptr: int) -> "StridedMemoryView":
        """DLPack, else the CUDA array interface, whose stream ours then waits for."""
        if hasattr(obj, "__dlpack__"):
            capsule = obj.__dlpack__(stream=stream_ptr)
            return cls(capsule.ptr, capsule.shape, capsule.dtype, capsule)
        if not hasattr(obj, "__cuda_array_interface__"):
            raise BufferError("the input object does not support any data exchange protocol")
        found = obj.__cuda_array_interface__
        if stream_ptr != NO_STREAM and found.get("stream") is not None:
            Stream.from_handle(stream_ptr).wait(Stream.from_handle(found["stream"]))
        return cls(found["data"][0], found["shape"], found["typestr"], obj)

    @classmethod
    def from_buffer(cls, buffer: Buffer, shape: tuple[int, ...], *, dtype: Any) -> "StridedMemoryView":
        made = cls(buffer.handle, shape, dtype, buffer)
        if made.size * made.dtype.itemsize > buffer.size:
            raise ValueError(f"{shape} of {dtype} is larger than the buffer of {buffer.size} bytes")
        return made

    def __dlpack__(self, *, stream: int | None = None, dl_device: tuple[int, int] | None = None) -> Capsule:
        if dl_device is not None:
            raise BufferError("Sorry, not supported: dl_device other than None")
        return Capsule(self.ptr, self.shape, self.dtype, self.exporting_obj)
