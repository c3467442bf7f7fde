"""Imitates cuda-core 1.2, as far as it is used."""

import re
from functools import partial
from typing import Any

import numpy as np
from fake_gpu.calls import CALLS, LOCK, misuse
from fake_gpu.kernels import KERNELS, check_arguments, entries
from fake_gpu.memory import MEMORY, Allocation, OutOfMemory
from fake_gpu.queues import QUEUES, Queue

NAME, CAPABILITY = "Fake RTX", (8, 6)
MOST_THREADS, MOST_BLOCKS = 1024, 2**31 - 1


class CUDAError(Exception):
    """As cuda-core's: no base class but Exception."""


def _call() -> None:
    """Every call of a thread, which must have made the GPU current."""
    CALLS.check_current()
    _may_fail()


def _may_fail() -> None:
    if CALLS.must_fail():
        raise CUDAError("CUDA_ERROR_UNKNOWN: a call of the fake GPU failed, as it was told to")


class Device:
    """The only one."""

    device_id = 0

    def __init__(self, device_id: int | None = None) -> None:
        _may_fail()
        assert device_id in (None, 0)

    def set_current(self) -> None:
        _may_fail()
        CALLS.make_current()

    @property
    def name(self) -> str:
        return NAME

    @property
    def compute_capability(self) -> tuple[int, int]:
        return CAPABILITY

    def create_stream(self) -> "Stream":
        _call()
        return Stream(QUEUES.create(), is_owner=True)


class Handle:
    """An address as the driver's Python types have it."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __int__(self) -> int:
        return self._address


class Stream:
    """A queue of work; made by `Device.create_stream` or `from_handle`."""

    def __init__(self, queue: Queue, is_owner: bool) -> None:
        self.queue = queue
        self._is_owner = is_owner

    @staticmethod
    def from_handle(handle: int) -> "Stream":
        return Stream(QUEUES.find(int(handle)), is_owner=False)

    def __del__(self) -> None:
        if self._is_owner:
            self.queue.is_open = False

    @property
    def handle(self) -> Handle:
        return Handle(self.queue.handle)

    @property
    def device(self) -> Device:
        return Device(0)

    def sync(self) -> None:
        """What was queued is done even if the call says that something failed."""
        with LOCK:
            try:
                _call()
            finally:
                self.queue.sync()

    def wait(self, event_or_stream: "Stream") -> None:
        with LOCK:
            _call()
            self.queue.wait(event_or_stream.queue)


class Buffer:
    """Memory that is owned, or borrowed from an owner."""

    def __init__(self, handle: int, size: int, owner: Any, allocation: Allocation | None, queue: Queue | None) -> None:
        self.handle = handle
        self.size = size
        self._owner = owner
        self._allocation = allocation
        self._queue = queue

    @staticmethod
    def from_handle(ptr: int, size: int, mr: None = None, owner: Any = None) -> "Buffer":
        with LOCK:
            MEMORY.check(ptr, size)
        return Buffer(ptr, size, owner, None, None)

    def set_deallocation_stream(self, stream: Stream) -> None:
        _call()
        self._queue = stream.queue

    def copy_to(self, dst: "Buffer", *, stream: Stream) -> "Buffer":
        with LOCK:
            _call()
            if dst.size != self.size:
                raise ValueError(f"buffer sizes mismatch between src and dst (sizes are: src={self.size}, {dst.size})")
            MEMORY.check(self.handle, self.size)
            MEMORY.check(dst.handle, dst.size)
            stream.queue.push(partial(_copy, self.handle, dst.handle, self.size))
        return dst

    def close(self) -> None:
        """Freed by the stream, when it comes to that."""
        with LOCK:
            allocation, self._allocation, self._owner = self._allocation, None, None
            if allocation is None:
                return
            if self._queue is None:
                MEMORY.unpin(allocation)
            elif self._queue.captured is not None:
                misuse("memory is freed by a stream that is captured")
            else:
                self._queue.push(partial(MEMORY.free, allocation), frees=True)

    def __del__(self) -> None:
        self.close()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0) if MEMORY.is_of_device(self.handle) else (3, 0)


def _copy(source: int, target: int, size: int) -> None:
    MEMORY.check(target, size, is_live=True)[:] = MEMORY.check(source, size, is_live=True)


class DeviceMemoryResource:
    """The device's pool."""

    def __init__(self, device_id: Device) -> None:
        _call()
        self.handle = Handle(0x7000)

    def allocate(self, size: int, *, stream: Stream) -> Buffer:
        with LOCK:
            _call()
            if stream.queue.captured is not None:
                misuse("memory is allocated by a stream that is captured, so its address is not known outside")
            try:
                made = MEMORY.allocate(size)
            except OutOfMemory:
                raise CUDAError(
                    "CUDA_ERROR_OUT_OF_MEMORY: The API call failed because it was unable to allocate enough memory"
                ) from None
            stream.queue.push(partial(_arrive, made))
            return Buffer(made.address, size, None, made, stream.queue)


def _arrive(allocation: Allocation) -> None:
    allocation.state = "live"


class LegacyPinnedMemoryResource:
    """Memory of the host."""

    def allocate(self, size: int) -> Buffer:
        with LOCK:
            _call()
            made = MEMORY.pin(size)
            return Buffer(made.address, size, None, made, None)


class LaunchConfig:
    """How many threads, in blocks."""

    def __init__(self, grid: int, block: int) -> None:
        if not 1 <= grid <= MOST_BLOCKS or not 1 <= block <= MOST_THREADS:
            raise ValueError(f"LaunchConfig: grid {grid}, block {block}")
        self.grid = (grid, 1, 1)
        self.block = (block, 1, 1)


class ProgramOptions:
    """What to compile for."""

    def __init__(self, arch: str) -> None:
        self.arch = arch


class Program:
    """A CUDA source."""

    def __init__(self, code: str, code_type: str, options: ProgramOptions) -> None:
        _call()
        if code_type != "c++" or not re.fullmatch(r"sm_\d+", options.arch):
            raise ValueError(f"{code_type}, {options.arch}")
        self._code, self._options = code, options

    def compile(self, target_type: str) -> "ObjectCode":
        _call()
        assert target_type == "cubin"
        return ObjectCode(self._code, self._options.arch)


class ObjectCode:
    """Compiled code."""

    def __init__(self, source: str, arch: str) -> None:
        self._arch, self._entries = arch, entries(source)

    def get_kernel(self, name: str) -> "Kernel":
        _call()
        if self._arch != "sm_{}{}".format(*CAPABILITY):
            raise CUDAError("CUDA_ERROR_NO_BINARY_FOR_GPU: there is no kernel image for execution on the device")
        if name not in self._entries:
            raise CUDAError("CUDA_ERROR_NOT_FOUND: a named symbol was not found")
        return Kernel(name, self._entries[name])


class Kernel:
    """What can be launched."""

    def __init__(self, name: str, types: list[Any]) -> None:
        self.name = name
        self.types = types


def launch(stream: Stream, config: LaunchConfig, kernel: Kernel, *kernel_args: Any) -> None:
    with LOCK:
        _call()
        given = tuple(one.handle if isinstance(one, Buffer) else one for one in kernel_args)
        check_arguments(kernel.name, kernel.types, given)
        for one in kernel_args:
            if isinstance(one, Buffer):
                MEMORY.check(one.handle, one.size)
        plain = [int(one) if isinstance(one, np.integer) else one for one in given]
        stream.queue.push(partial(KERNELS[kernel.name], config.grid[0] * config.block[0], *plain))
