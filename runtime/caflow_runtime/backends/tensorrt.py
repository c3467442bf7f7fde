"""Engines through TensorRT or TensorRT-RTX: one stream, values that stay on the GPU, one memory for all activations.

Not a line of it runs without a GPU; what it refuses is tested without one.
"""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from caflow_runtime import bundle, engines
from caflow_runtime.engines import EXTRAS, NAMES, EngineSet, Flavor
from caflow_runtime.errors import BackendError
from caflow_runtime.gpu import Gpu, first_gpu
from caflow_runtime.scan import Array, Arrays, Graph

TYPES: dict[str, np.dtype[Any]] = {
    "FLOAT": np.dtype(np.float32),
    "HALF": np.dtype(np.float16),
    "BF16": np.dtype(np.uint16),  # numpy has no such type; nothing but engines looks inside
    "UINT8": np.dtype(np.uint8),
    "INT64": np.dtype(np.int64),
}


class TensorRT:
    """Graphs as engines; device arrays are `DeviceArray`s. Any thread may use it: work is queued on one stream."""

    def __init__(self, flavor: Flavor) -> None:
        """Starts CUDA on the first GPU.

        Raises:
            BackendError: if the flavour, CUDA's bindings, the driver or the GPU is missing.
        """
        self.name = "tensorrt" if flavor == "tensorrt" else "tensorrt-rtx"
        self.flavor = flavor
        self.gpu = _check_installed(flavor)
        self.trt = engines.module(flavor)
        self.log = engines.log(flavor)
        self.cuda = _Cuda()
        self.runtime = self.trt.Runtime(self.log)
        self._activations = DeviceArray(self.cuda, (1,), np.dtype(np.uint8))
        self._lock = Lock()

    def load(self, path: Path) -> Graph:
        """The engine that was built from the graph at `path`.

        Raises:
            BackendError: if there is none that fits the bundle, this version and this GPU: why each does not.
        """
        folder, described = fitting(path.parent, self.flavor, self.gpu)
        file = next(engine.file for engine in described.engines if engine.graph == path.stem)
        if bundle.sha256_of(folder / file.path) != file.sha256:
            raise BackendError(f"{folder / file.path} is damaged: {_build(path.parent, described.precision)}")
        engine = self.runtime.deserialize_cuda_engine((folder / file.path).read_bytes())
        if engine is None:
            raise BackendError(f"{folder / file.path}: {NAMES[self.flavor]} cannot load it: {self.log.first_error()}")
        run = _Engine(self, engine, folder / file.path)

        def locked(arrays: Arrays) -> dict[str, Array]:
            with self._lock:
                return run(arrays)

        return locked

    def to_device(self, array: NDArray[Any]) -> Array:
        on_device = DeviceArray(self.cuda, array.shape, array.dtype)
        self.cuda.copy(on_device.pointer, array.ctypes.data, array.nbytes, "cudaMemcpyHostToDevice")
        self.cuda.wait()  # the host's memory may be gone after this call
        return cast(Array, on_device)

    def to_host(self, array: Any) -> NDArray[Any]:
        host = np.empty(array.shape, array.dtype)
        self.cuda.copy(host.ctypes.data, array.pointer, host.nbytes, "cudaMemcpyDeviceToHost")
        self.cuda.wait()
        return host

    def take(self, array: Any, rows: NDArray[np.int64]) -> Array:
        taken = DeviceArray(self.cuda, (len(rows), *array.shape[1:]), array.dtype)
        size = taken.nbytes // max(1, len(rows))
        for k, row in enumerate(rows.tolist()):
            source = array.pointer + row * size
            self.cuda.copy(taken.pointer + k * size, source, size, "cudaMemcpyDeviceToDevice")
        return cast(Array, taken)

    def activations(self, size: int) -> int:
        """A pointer to at least so many bytes, which engines share: they run one after the other on one stream."""
        if self._activations.nbytes < size:
            self._activations = DeviceArray(self.cuda, (size,), np.dtype(np.uint8))
        return self._activations.pointer


class DeviceArray:
    """Memory of the GPU with a shape and a type, freed when it is forgotten: in the stream's order, so never early."""

    def __init__(self, cuda: "_Cuda", shape: Sequence[int], dtype: np.dtype[Any]) -> None:
        self.shape = tuple(shape)
        self.dtype = dtype
        self._cuda = cuda
        self.pointer: int = cuda.allocate(self.nbytes)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        stream = int(self._cuda.stream)
        data = (self.pointer, False)
        return {"shape": self.shape, "typestr": self.dtype.str, "data": data, "version": 3, "stream": stream}

    def __del__(self) -> None:
        if hasattr(self, "pointer"):
            self._cuda.free(self.pointer)


class _Engine:
    """One engine, with a context for each of its profiles."""

    def __init__(self, backend: TensorRT, engine: Any, path: Path) -> None:
        trt = backend.trt
        self.backend = backend
        self.engine = engine
        self.path = path
        names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
        self.inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.outputs = [name for name in names if name not in self.inputs]
        self.types: dict[str, np.dtype[Any]] = {name: TYPES[engine.get_tensor_dtype(name).name] for name in names}
        self.contexts: dict[int, Any] = {}

    def __call__(self, arrays: Arrays) -> dict[str, Array]:
        given: dict[str, Any] = {name: arrays[name] for name in self.inputs}
        context = self._context({name: array.shape for name, array in given.items()})
        for name, array in given.items():
            context.set_input_shape(name, array.shape)
            context.set_tensor_address(name, array.pointer)
        cuda = self.backend.cuda
        made: dict[str, Any] = {
            name: DeviceArray(cuda, tuple(context.get_tensor_shape(name)), self.types[name]) for name in self.outputs
        }
        for name, array in made.items():
            context.set_tensor_address(name, array.pointer)
        size = context.update_device_memory_size_for_shapes()
        context.set_device_memory(self.backend.activations(size), size)
        if not context.execute_async_v3(int(cuda.stream)):
            raise BackendError(
                f"{self.path}: {self.backend.log.first_error()}: if memory ran out, give a smaller pixel_budget"
            )
        return made

    def _context(self, shapes: dict[str, tuple[int, ...]]) -> Any:
        """Of the first profile that takes these shapes.

        Raises:
            BackendError: if none does.
        """
        largest = {}
        for profile in range(self.engine.num_optimization_profiles):
            bounds = {name: self.engine.get_tensor_profile_shape(name, profile) for name in shapes}
            if all(_within(shape, bounds[name]) for name, shape in shapes.items()):
                if profile not in self.contexts:
                    self.contexts[profile] = self._new_context(profile)
                return self.contexts[profile]
            largest = {name: tuple(of_profile[2]) for name, of_profile in bounds.items()}
        raise BackendError(
            f"{self.path}: wanted inputs of at most {largest}, got {shapes}: give a smaller pixel_budget, or build "
            "engines for more with --max-rows and --max-size"
        )

    def _new_context(self, profile: int) -> Any:
        strategy = self.backend.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self.engine.create_execution_context(strategy)
        context.set_optimization_profile_async(profile, int(self.backend.cuda.stream))
        return context


class _Cuda:
    """The few calls of CUDA's runtime that are needed, each checked, on one stream."""

    def __init__(self) -> None:
        from cuda.bindings import runtime

        self._runtime = runtime
        self.stream = self._checked(runtime.cudaStreamCreateWithFlags(runtime.cudaStreamNonBlocking))

    def allocate(self, size: int) -> int:
        return int(self._checked(self._runtime.cudaMallocAsync(max(1, size), self.stream)))

    def free(self, pointer: int) -> None:
        self._runtime.cudaFreeAsync(pointer, self.stream)

    def copy(self, to: int, source: int, size: int, kind: str) -> None:
        self._checked(self._runtime.cudaMemcpyAsync(to, source, size, self._runtime.cudaMemcpyKind[kind], self.stream))

    def wait(self) -> None:
        self._checked(self._runtime.cudaStreamSynchronize(self.stream))

    def _checked(self, result: tuple[Any, ...]) -> Any:
        error, *values = result
        if error == self._runtime.cudaError_t.cudaErrorMemoryAllocation:
            raise MemoryError("the GPU's memory is full: give a smaller pixel_budget")
        if int(error):
            _, text = self._runtime.cudaGetErrorString(error)
            raise BackendError(f"CUDA: {text.decode()}")
        return values[0] if values else None


def fitting(folder: Path, flavor: Flavor, gpu: Gpu) -> tuple[Path, EngineSet]:
    """The engines of a bundle for this flavour, its installed version and this GPU.

    Raises:
        BackendError: if there are none: what is wrong with those that are there, and how to build others.
    """
    reasons = []
    precision = bundle.read_manifest(folder).precision
    for found in engines.find(folder):
        described = found.engines
        if described is not None and described.flavor != flavor:
            continue
        reason = found.stale
        if reason is None and described is not None:
            if described.compute_capability != gpu.compute_capability or described.gpu not in (None, gpu.name):
                reason = f"for {described.gpu or 'compute capability ' + described.compute_capability}"
            else:
                return found.folder, described
        reasons.append(f"{found.folder.name} is {reason}")
    why = f" ({'; '.join(reasons)})" if reasons else ""
    here = f"{gpu.name}, compute capability {gpu.compute_capability}"
    raise BackendError(f"{folder}: no engines of {NAMES[flavor]} for {here}{why}: {_build(folder, precision)}")


def _build(folder: Path, precision: str) -> str:
    return f"caflow-export {folder} --trt {precision}"


def _within(shape: tuple[int, ...], bounds: Sequence[Sequence[int]]) -> bool:
    smallest, _, largest = bounds
    return all(low <= side <= high for low, side, high in zip(smallest, shape, largest, strict=True))


def _check_installed(flavor: Flavor) -> Gpu:
    install = f"pip install 'caflow-deploy[{EXTRAS[flavor]}]'"
    if engines.installed_version(flavor) is None:
        raise BackendError(f"{NAMES[flavor]} is not installed: {install}")
    try:
        import cuda.bindings.runtime  # noqa: F401
    except ImportError as error:
        raise BackendError(f"{NAMES[flavor]} needs CUDA's Python bindings ({error}): {install}") from None
    gpu = first_gpu()
    if gpu is None:
        raise BackendError(f"wanted {NAMES[flavor]}, but there is no GPU or no driver: use the backend cpu")
    return gpu
