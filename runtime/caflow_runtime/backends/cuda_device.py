"""Memory and streams of the GPU, through NVIDIA's cuda-core: allocation, copies, and recording of CUDA graphs."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import local
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from caflow_runtime.backends.backend import explaining
from caflow_runtime.backends.device_array import DeviceArray, part_of
from caflow_runtime.backends.gpu import first_gpu
from caflow_runtime.backends.staging import Staging
from caflow_runtime.errors import BackendError, InputError

CUDA = 13
"""Major version of CUDA that cuda-core and NVRTC are installed for."""
ALIGNMENT = 256
"""Alignment in bytes that engines require of the addresses of their inputs."""
INSTALL = "pip install 'caflow-deploy[trt-rtx]' or 'caflow-deploy[trt]'"


class CudaDevice:
    """The first GPU, with its streams.

    Graphs run on the compute stream. Copies to and from the device have a stream for each direction, so that they
    overlap with computation.
    """

    def __init__(self) -> None:
        """Open the GPU.

        Raises:
            BackendError: if cuda-core, a recent driver or a GPU is missing.
        """
        try:
            from cuda.core import Device, DeviceMemoryResource, LegacyPinnedMemoryResource
        except ImportError as error:
            raise BackendError(f"TensorRT engines require cuda-core 1.2 or later ({error}): {INSTALL}") from None
        if (gpu := first_gpu()) is not None and gpu.cuda < CUDA:
            raise BackendError(
                f"driver {gpu.driver} of the {gpu.name} supports CUDA {gpu.cuda}, but CUDA {CUDA} is required: "
                "install a newer driver"
            )
        try:
            self._device = Device(0)
            self._device.set_current()
            self.name = self._device.name
            self.compute_capability = "{}.{}".format(*self._device.compute_capability)
            self.compute, self.recorder, self._up, self._down = (self._device.create_stream() for _ in range(4))
            self._memory = DeviceMemoryResource(self._device)
        except Exception as error:  # the exceptions of cuda-core share no base class
            raise BackendError(f"no NVIDIA GPU can be used ({error}): install its driver") from None
        pinned = LegacyPinnedMemoryResource()
        self._to_device, self._to_host = Staging(pinned), Staging(pinned)
        self._recorded = local()
        self.spare: Callable[[], None] = nothing_to_spare
        """Function that frees memory which only makes later runs faster. It is called when memory runs out."""

    @property
    def stream(self) -> Any:
        """Stream for the work of the calling thread: the compute stream or, in a recording, the recorder's stream."""
        recording = self._recording
        return self.compute if recording is None else self.recorder

    @property
    def is_recording(self) -> bool:
        """Whether the calling thread is recording its work."""
        return self._recording is not None

    @property
    def _recording(self) -> "Recording | None":
        """The calling thread's recording, or None."""
        return getattr(self._recorded, "now", None)

    def use(self) -> None:
        """Make this GPU the current device of the calling thread.

        Raises:
            BackendError: if the driver reports an error.
        """
        with explaining(self.name):
            self._device.set_current()

    def finish(self) -> None:
        """Wait until the compute stream has finished all work that any thread has queued so far.

        Raises:
            BackendError: if the driver reports an error.
        """
        self.use()
        with explaining(self.name):
            self.compute.sync()

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Allocate an array for the compute stream. Its values are undefined."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        return DeviceArray(self.allocate(size), shape, dtype, self.compute)

    def allocate(self, size: int) -> Any:
        """Allocate a buffer of `size` bytes for the compute stream.

        In a recording, the buffer is kept as long as the recording.

        Raises:
            MemoryError: if the GPU has too little memory, even after unused memory is freed.
        """
        recording = self._recording
        if recording is None:
            return self._allocate(size, self.compute)
        # Allocate on a stream that is not recorded: the buffer must exist as long as the recording.
        buffer = self._allocate(size, self._up)
        recording.buffers.append(buffer)
        return buffer

    def _allocate(self, size: int, stream: Any) -> Any:
        """Allocate a buffer on `stream`.

        After its release, the buffer is freed when the compute stream has finished the work queued until then.
        """
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
        """Return unused memory to the driver. The memory pool keeps freed memory, which TensorRT cannot use."""
        from cuda.bindings import driver

        self.spare()
        self.compute.sync()
        _checked(driver.cuMemPoolTrimTo(self._memory.handle, 0))

    def upload(self, array: NDArray[Any]) -> DeviceArray:
        """Copy an array to the device. Work that is queued on the compute stream after this call sees the copy."""
        array = np.ascontiguousarray(array)
        with explaining(self.name), self._to_device as staging:
            buffer = self._allocate(array.nbytes, self._up)
            np.copyto(staging.view(array.shape, array.dtype), array)
            staging.part(array.nbytes).copy_to(buffer, stream=self._up)
            self._up.sync()  # the next upload overwrites the staging memory; the compute stream does not wait
        return DeviceArray(buffer, array.shape, array.dtype, self.compute)

    def download(self, array: DeviceArray) -> NDArray[Any]:
        """Copy an array to the host, after all work that is queued on the compute stream so far."""
        with explaining(self.name), self._to_host as staging:
            there = staging.view(array.shape, array.dtype)
            self._down.wait(self.compute)
            part_of(array, 0, array.nbytes).copy_to(staging.part(array.nbytes), stream=self._down)
            self._down.sync()
            return there.copy()

    def copy(self, source: DeviceArray, target: DeviceArray) -> None:
        """Copy `source` to `target` on the compute stream."""
        part_of(source, 0, source.nbytes).copy_to(part_of(target, 0, source.nbytes), stream=self.compute)

    def row(self, array: DeviceArray, row: int) -> DeviceArray:
        """Return one row of an array, as a view of the same memory."""
        size = array.nbytes // max(1, array.shape[0])
        return DeviceArray(part_of(array, row * size, size), array.shape[1:], array.dtype, self.compute)

    def take(self, array: DeviceArray, rows: NDArray[np.int64]) -> DeviceArray:
        """Return the rows with these indices as a new array, copied on the compute stream."""
        size = array.nbytes // max(1, array.shape[0])
        with explaining(self.name):
            taken = self.empty((len(rows), *array.shape[1:]), array.dtype)
            for k, row in enumerate(rows):
                part_of(array, int(row) * size, size).copy_to(part_of(taken, k * size, size), stream=self.compute)
        return taken

    def adopt(self, array: object) -> DeviceArray:
        """Return an array of another library as a `DeviceArray`. It is only copied if its alignment is wrong.

        Raises:
            InputError: if the array is not in the memory of this GPU, or not contiguous.
        """
        from cuda.core import Buffer
        from cuda.core.utils import StridedMemoryView

        try:
            view = StridedMemoryView.from_any_interface(array, stream_ptr=int(self.compute.handle))
        except Exception as error:  # the exceptions of cuda-core share no base class
            raise InputError(
                f"expected an array in the memory of {self.name}; got {type(array).__name__}: {error}"
            ) from None
        if not view.is_device_accessible or view.device_id != self._device.device_id:
            raise InputError(f"expected an array in the memory of {self.name}; got one of the host or of another GPU")
        assert view.dtype is not None
        steps = [math.prod(view.shape[k + 1 :]) for k in range(len(view.shape))]
        strides = view.strides or steps
        if any(side > 1 and one != step for side, one, step in zip(view.shape, strides, steps, strict=True)):
            raise InputError("expected a contiguous array (C order); got other strides: make a contiguous copy")
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
        """Record the work that the calling thread queues on `stream` inside the block. The work is not run.

        This calls the driver directly: in cuda-core 1.2, a recording that the driver rejects ends the process.
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
                self._up.sync()  # finish the recording's allocations: the compute stream may free them from here on
            with explaining("a CUDA graph"):
                _checked((error,))
                recording.graph = _checked(driver.cuGraphInstantiate(graph, 0))
        finally:
            if graph is not None and int(graph):
                driver.cuGraphDestroy(graph)


class Recording:
    """Recorded work that can be repeated (a CUDA graph), and the buffers that it uses."""

    def __init__(self) -> None:
        self.buffers: list[Any] = []
        self.graph: Any = None

    def repeat(self, stream: Any) -> None:
        """Queue the recorded work on a stream."""
        from cuda.bindings import driver

        with explaining("a CUDA graph"):
            _checked(driver.cuGraphLaunch(self.graph, stream.handle))

    def __del__(self) -> None:
        with suppress(Exception):  # when Python exits, the driver may be gone
            from cuda.bindings import driver

            if self.graph is not None:
                driver.cuGraphExecDestroy(self.graph)


def nothing_to_spare() -> None:
    """Free nothing: the value of `CudaDevice.spare` while nothing is kept for later runs."""


def _checked(result: tuple[Any, ...]) -> Any:
    """Return the first result of a driver call, or None if the call has no result.

    Raises:
        RuntimeError: with the name of the driver's error.
    """
    from cuda.bindings import driver

    error, *found = result
    if error != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(error.name)
    return found[0] if found else None
