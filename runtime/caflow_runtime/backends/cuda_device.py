"""The GPU's memory and streams, by NVIDIA's cuda-core: arrays, and copies beside the stream that computes."""

import ctypes
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock, local
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from caflow_runtime.backends.backend import explaining
from caflow_runtime.backends.device_array import DeviceArray, part_of
from caflow_runtime.backends.gpu import first_gpu
from caflow_runtime.errors import BackendError, InputError

CUDA = 13
"""What cuda-core and NVRTC are installed for."""
ALIGNMENT = 256
"""Bytes, of what engines take."""
INSTALL = "pip install 'caflow-deploy[trt-rtx]' or 'caflow-deploy[trt]'"


class CudaDevice:
    """The first GPU, with a stream that computes and one for copies each way, so that they overlap."""

    def __init__(self) -> None:
        """Raises:
        BackendError: without cuda-core, a driver or a GPU.
        """
        try:
            from cuda.core import Device, DeviceMemoryResource, LegacyPinnedMemoryResource
        except ImportError as error:
            raise BackendError(f"engines need cuda-core 1.2 or later ({error}): {INSTALL}") from None
        if (gpu := first_gpu()) is not None and gpu.cuda < CUDA:
            raise BackendError(
                f"wanted a driver that runs CUDA {CUDA}, that of the {gpu.name}, {gpu.driver}, runs CUDA {gpu.cuda}: "
                "install a newer one"
            )
        try:
            self._device = Device(0)
            self._device.set_current()
            self.name = self._device.name
            self.compute_capability = "{}.{}".format(*self._device.compute_capability)
            self.compute, self.recorder, self._up, self._down = (self._device.create_stream() for _ in range(4))
            self._memory = DeviceMemoryResource(self._device)
        except Exception as error:  # its exceptions share no base class
            raise BackendError(f"no NVIDIA GPU can be used ({error}): install its driver") from None
        pinned = LegacyPinnedMemoryResource()
        self._to_device, self._to_host = _Staging(pinned), _Staging(pinned)
        self._recorded = local()
        self.spare: Callable[[], None] = lambda: None
        """Lets go of memory that is held for speed alone; asked for where there is no more."""

    @property
    def stream(self) -> Any:
        """What computes for the calling thread: while it records, the stream of the recording."""
        recording = self._recording
        return self.compute if recording is None else self.recorder

    @property
    def is_recording(self) -> bool:
        """Whether the calling thread is."""
        return self._recording is not None

    @property
    def _recording(self) -> "Recording | None":
        """The one that the calling thread is in."""
        return getattr(self._recorded, "now", None)

    def use(self) -> None:
        """Make it the calling thread's.

        Raises:
            BackendError
        """
        with explaining(self.name):
            self._device.set_current()

    def finish(self) -> None:
        """Wait until the computing stream has done all that it was given, in any thread.

        Raises:
            BackendError
        """
        self.use()
        with explaining(self.name):
            self.compute.sync()

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """An array for the computing stream."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        return DeviceArray(self.allocate(size), shape, dtype, self.compute)

    def allocate(self, size: int) -> Any:
        """A buffer of so many bytes, for the computing stream.

        Raises:
            MemoryError
        """
        recording = self._recording
        if recording is None:
            return self._allocate(size, self.compute)
        # What a recording uses must outlive it, so its memory comes from outside of what is recorded.
        buffer = self._allocate(size, self._up)
        recording.buffers.append(buffer)
        return buffer

    def _allocate(self, size: int, stream: Any) -> Any:
        """On a stream, and freed when the computing one has done what it was given until then."""
        try:
            with explaining(self.name):
                buffer = self._memory.allocate(size, stream=stream)
        except MemoryError:
            self.give_back()
            with explaining(self.name):
                buffer = self._memory.allocate(size, stream=stream)
        buffer.set_deallocation_stream(self.compute)
        return buffer

    def give_back(self) -> None:
        """All memory that is not in use, for others: the pool keeps what was freed, and TensorRT takes none from it."""
        from cuda.bindings import driver

        self.spare()
        self.compute.sync()
        _checked(driver.cuMemPoolTrimTo(self._memory.handle, 0))

    def upload(self, array: NDArray[Any]) -> DeviceArray:
        """A copy on the device, which what the computing stream is given from here on finds there."""
        array = np.ascontiguousarray(array)
        with explaining(self.name), self._to_device as staging:
            buffer = self._allocate(array.nbytes, self._up)
            np.copyto(staging.view(array.shape, array.dtype), array)
            staging.part(array.nbytes).copy_to(buffer, stream=self._up)
            self._up.sync()  # the staging is free again; the computing stream goes on meanwhile
        return DeviceArray(buffer, array.shape, array.dtype, self.compute)

    def download(self, array: DeviceArray) -> NDArray[Any]:
        """A copy on the host, when the computing stream has done what it was given until now."""
        with explaining(self.name), self._to_host as staging:
            there = staging.view(array.shape, array.dtype)
            self._down.wait(self.compute)
            part_of(array, 0, array.nbytes).copy_to(staging.part(array.nbytes), stream=self._down)
            self._down.sync()
            return there.copy()

    def copy(self, source: DeviceArray, target: DeviceArray) -> None:
        """On the computing stream."""
        part_of(source, 0, source.nbytes).copy_to(part_of(target, 0, source.nbytes), stream=self.compute)

    def row(self, array: DeviceArray, row: int) -> DeviceArray:
        """One row, where it lies."""
        size = array.nbytes // max(1, array.shape[0])
        return DeviceArray(part_of(array, row * size, size), array.shape[1:], array.dtype, self.compute)

    def take(self, array: DeviceArray, rows: NDArray[np.int64]) -> DeviceArray:
        """Rows, copied on the computing stream."""
        size = array.nbytes // max(1, array.shape[0])
        with explaining(self.name):
            taken = self.empty((len(rows), *array.shape[1:]), array.dtype)
            for k, row in enumerate(rows):
                part_of(array, int(row) * size, size).copy_to(part_of(taken, k * size, size), stream=self.compute)
        return taken

    def adopt(self, array: object) -> DeviceArray:
        """An array of another library, without a copy unless it begins at an odd place.

        Raises:
            InputError: if it is not on this GPU, or not contiguous.
        """
        from cuda.core import Buffer
        from cuda.core.utils import StridedMemoryView

        try:
            view = StridedMemoryView.from_any_interface(array, stream_ptr=int(self.compute.handle))
        except Exception as error:  # its exceptions share no base class
            raise InputError(f"wanted an array in {self.name}'s memory, got {type(array).__name__}: {error}") from None
        if not view.is_device_accessible or view.device_id != self._device.device_id:
            raise InputError(f"wanted an array in {self.name}'s memory, got one of the host or of another GPU")
        assert view.dtype is not None
        steps = [math.prod(view.shape[k + 1 :]) for k in range(len(view.shape))]
        strides = view.strides or steps
        if any(side > 1 and one != step for side, one, step in zip(view.shape, strides, steps, strict=True)):
            raise InputError("wanted a contiguous array, got one whose elements lie apart: make a copy")
        buffer = Buffer.from_handle(view.ptr, view.size * view.dtype.itemsize, owner=view)
        adopted = DeviceArray(buffer, view.shape, view.dtype, self.compute)
        if view.ptr % ALIGNMENT == 0:
            return adopted
        with explaining(self.name):
            aligned = self.empty(view.shape, view.dtype)
            self.copy(adopted, aligned)
        return aligned

    @contextmanager
    def recording(self) -> Iterator["Recording"]:
        """What `stream` is given inside, by the calling thread, is recorded and not done.

        By the driver's own calls: of cuda-core 1.2, a recording that the driver gives up ends the process.
        """
        from cuda.bindings import driver

        recording, stream = Recording(), self.recorder.handle
        _checked(driver.cuStreamBeginCapture(stream, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED))
        self._recorded.now = recording
        graph = None
        try:
            try:
                yield recording
            finally:
                self._recorded.now = None
                error, graph = driver.cuStreamEndCapture(stream)
                self._up.sync()  # what was allocated there may be freed by the computing stream from here on
            with explaining("a CUDA graph"):
                _checked((error,))
                recording.graph = _checked(driver.cuGraphInstantiate(graph, 0))
        finally:
            if graph is not None and int(graph):
                driver.cuGraphDestroy(graph)


class Recording:
    """Work that can be repeated, with the memory that it uses."""

    def __init__(self) -> None:
        self.buffers: list[Any] = []
        self.graph: Any = None

    def repeat(self, stream: Any) -> None:
        """Do it on a stream."""
        from cuda.bindings import driver

        with explaining("a CUDA graph"):
            _checked(driver.cuGraphLaunch(self.graph, stream.handle))

    def __del__(self) -> None:
        with suppress(Exception):  # when Python exits, the driver may be gone
            from cuda.bindings import driver

            if self.graph is not None:
                driver.cuGraphExecDestroy(self.graph)


def _checked(result: tuple[Any, ...]) -> Any:
    """What a call of the driver gives.

    Raises:
        RuntimeError: with the name of its error.
    """
    from cuda.bindings import driver

    error, *found = result
    if error != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(error.name)
    return found[0] if found else None


class _Staging:
    """Memory of the host that the GPU copies from or to by itself; one thread has it at a time."""

    def __init__(self, pinned: Any) -> None:
        self._pinned = pinned
        self._lock = Lock()
        self._buffer: Any = None

    def __enter__(self) -> "_Staging":
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def view(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """As large as it must be, as numpy sees it."""
        size = math.prod(shape) * dtype.itemsize
        if self._buffer is None or self._buffer.size < size:
            self._buffer = self._pinned.allocate(max(1, size))
        memory = (ctypes.c_uint8 * size).from_address(int(self._buffer.handle))
        return np.ctypeslib.as_array(memory).view(dtype).reshape(shape)

    def part(self, size: int) -> Any:
        """Its first bytes, after `view`."""
        from cuda.core import Buffer

        return Buffer.from_handle(int(self._buffer.handle), size, owner=self._buffer)
