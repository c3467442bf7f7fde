"""ONNX Runtime with arrays in GPU memory that CuPy manages: noise, items and checks are computed on the GPU.

ONNX Runtime waits at the end of each run, and each function here waits for its work, so no two of them overlap.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.backends.backend import explaining
from caflow_runtime.backends.engines import Engines
from caflow_runtime.backends.onnx_packages import import_onnxruntime
from caflow_runtime.backends.onnx_runtime import TYPES, OnnxRuntimeBound
from caflow_runtime.backends.provider_sessions import ProviderSessions
from caflow_runtime.errors import InputError
from caflow_runtime.flow.level_chain import Array
from caflow_runtime.flow.noise import NORMALS_PER_CALL, LevelNoise

THREADS = 256
"""Threads per block."""


class OnnxRuntimeCupy(OnnxRuntimeBound):
    """ONNX Runtime with inputs and outputs in GPU memory. Device arrays are ONNX Runtime's `OrtValue`."""

    finds_not_finite = True

    def __init__(self, name: str, sessions: ProviderSessions, engines: Engines | None = None) -> None:
        """Use the sessions of a provider.

        Raises:
            ImportError: if CuPy is not installed.
        """
        super().__init__(name, sessions, engines)
        import cupy

        self._cupy = cupy
        source = files("caflow_runtime.backends").joinpath("noise.cu").read_text()
        self._draw = cupy.RawKernel(source, "draw_noise")

    def to_device(self, array: NDArray[Any]) -> Array:
        with self._working():
            return self._value(self._cupy.asarray(array))

    def to_host(self, array: Any) -> NDArray[Any]:
        with self._working():
            return cast(NDArray[Any], self._cupy.asnumpy(self._view(array)))

    def item_to_host(self, array: Any, item: int) -> NDArray[Any]:
        with self._working():
            return cast(NDArray[Any], self._cupy.asnumpy(self._view(array)[item]))

    def take(self, array: Any, items: NDArray[np.int64]) -> Array:
        with self._working():
            return self._value(self._view(array)[self._cupy.asarray(items)])

    def are_finite(self, array: Any) -> NDArray[np.bool_]:
        with self._working():
            finite = self._cupy.isfinite(self._view(array)).reshape(array.shape()[0], -1).all(1)
            return cast(NDArray[np.bool_], self._cupy.asnumpy(finite))

    def draw_noise(self, z: LevelNoise) -> Array:
        """Draw noise as `noise.draw_items` does: the same integers, and normals within one float32 step."""
        items = [(place.top, place.left, sample) for place in z.places for sample in place.samples]
        place, word, first = z.places[0], np.uint32, 0
        with self._working():
            places = self._cupy.asarray(np.array(items, word))
            drawn = self._cupy.empty((len(items), sum(z.channels), place.height, place.width), np.float32)
            for i, (count, temperature) in enumerate(zip(z.channels, z.temperatures, strict=True), start=z.level):
                threads = len(items) * -(-count // NORMALS_PER_CALL) * place.height * place.width
                block = (i << 16) + (z.level << 24)
                sizes = (*drawn.shape, first, count, block, z.seed, z.frame)
                arguments = (drawn, places, *map(word, sizes), np.float32(temperature))
                self._draw((-(-threads // THREADS),), (THREADS,), arguments)
                first += count
            return self._value(drawn)

    def adopt(self, array: Any) -> Array:
        """Return an array of another library, with DLPack or `__cuda_array_interface__`, as a device array.

        CuPy waits for the work that the library has queued on it.
        """
        wanted = f"expected a contiguous array in the memory of GPU {self.sessions.number}"
        try:
            with self._working():
                own = self._cupy.from_dlpack(array) if hasattr(array, "__dlpack__") else self._cupy.asarray(array)
        except Exception as error:  # the exceptions of other libraries share no base class
            raise InputError(f"{wanted}; got {type(array).__name__}: {error}") from None
        if own.device.id != self.sessions.number or not own.flags.c_contiguous:
            raise InputError(f"{wanted}; got one on GPU {own.device.id} with the strides {own.strides}")
        return self._value(own)

    def lend(self, array: Any) -> Any:
        return self._view(array)

    def spare_memory(self) -> bool:
        with self._working():
            self._cupy.get_default_memory_pool().free_all_blocks()
        return super().spare_memory()

    def used_memory(self) -> int | None:
        free, total = self._cupy.cuda.Device(self.sessions.number).mem_info
        return int(total - free)

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Work on the GPU of this backend, and wait for the end of the work."""
        with explaining(self.name), self._cupy.cuda.Device(self.sessions.number):
            yield
            self._cupy.cuda.get_current_stream().synchronize()

    def _view(self, value: Any) -> Any:
        """Return a device array as an array of CuPy, in the same memory."""
        cuda = self._cupy.cuda
        memory = cuda.UnownedMemory(value.data_ptr(), value.tensor_size_in_bytes(), value, self.sessions.number)
        return self._cupy.ndarray(tuple(value.shape()), TYPES[value.data_type()], cuda.MemoryPointer(memory, 0))

    def _value(self, array: Any) -> Array:
        """Return an array of CuPy as a device array, in the same memory."""
        return cast(Array, import_onnxruntime().OrtValue.from_dlpack(array))
