"""A TensorRT engine that runs as a graph."""

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from caflow_runtime.backends.backend import explaining
from caflow_runtime.backends.device_array import DeviceArray
from caflow_runtime.backends.tensorrt_runtime import TensorRTRuntime
from caflow_runtime.errors import BackendError
from caflow_runtime.flow.scan import Array, Arrays

TYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "BF16": np.uint16,  # NumPy has no bfloat16; only engines use these values
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
}
"""NumPy types of TensorRT's data types."""


SMALLEST = 256
"""Smallest amount of activation memory, in bytes. TensorRT reports 0 both if none is needed and if the query failed."""


class EngineGraph:
    """Engine as a callable from named device arrays to named device arrays."""

    def __init__(self, runtime: TensorRTRuntime, engine: Any, path: Path) -> None:
        trt = runtime.trt
        self.runtime = runtime
        self.engine = engine
        self.path = path
        names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
        self.inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.outputs = {name: TYPES[engine.get_tensor_dtype(name).name] for name in names if name not in self.inputs}
        self._contexts: dict[Any, Any] = {}

    def __call__(self, arrays: Arrays) -> dict[str, Array]:
        runtime, device = self.runtime, self.runtime.device
        with runtime.lock, explaining(self.path):
            device.use()
            given = {name: cast(DeviceArray, arrays[name]) for name in self.inputs}
            context = self._context(self._profile({name: array.shape for name, array in given.items()}))
            is_set = all(
                (device.is_recording or context.set_input_shape(name, array.shape))
                and context.set_tensor_address(name, array.address)
                for name, array in given.items()
            )
            if not is_set:
                raise self._refusal(given)
            results = {}
            for name, dtype in self.outputs.items():
                results[name] = device.empty(tuple(context.get_tensor_shape(name)), dtype)
            is_set = all(context.set_tensor_address(name, array.address) for name, array in results.items())
            if not device.is_recording:  # a recording uses the memory of the run before it
                size = max(SMALLEST, context.update_device_memory_size_for_shapes())
                context.set_device_memory(int(runtime.activation(size).handle), size)
            if not is_set:
                raise self._refusal(given)
            run = partial(context.execute_async_v3, int(device.stream.handle))
            if not (run() if device.is_recording else self._can_be_recorded(context)):
                raise BackendError(f"{self.path}: {runtime.name} cannot record this engine")
            if not device.is_recording:
                runtime.made_by(context, run, self.path)
        return cast(dict[str, Array], results)

    def _refusal(self, given: dict[str, DeviceArray]) -> BackendError:
        """Return the error for inputs that the execution context rejects."""
        shapes = [array.shape for array in given.values()]
        return BackendError(f"{self.path}: {self.runtime.name} rejects inputs of shapes {shapes}")

    def __del__(self) -> None:
        with suppress(Exception):  # contexts are freed immediately, not in stream order, so wait for running work
            self.runtime.device.finish()

    def _can_be_recorded(self, context: Any) -> bool:
        """Return whether the work of this context can be recorded.

        The result is True if no recording is planned, and for TensorRT, which cannot tell.
        """
        if self.runtime.contexts is None:
            return True
        ask = getattr(context, "is_stream_capturable", None)
        return ask is None or bool(ask(int(self.runtime.device.recorder.handle)))

    def _profile(self, shapes: dict[str, tuple[int, ...]]) -> int:
        """Return the last profile that accepts the shapes. Later profiles are for smaller targets.

        Raises:
            BackendError: if no profile accepts the shapes.
        """
        for profile in reversed(range(self.engine.num_optimization_profiles)):
            if all(self._takes(name, profile, shape) for name, shape in shapes.items()):
                return profile
        raise BackendError(
            f"{self.path} was not built for inputs of {shapes}: build it again with a larger --max-rows or --max-size"
        )

    def _takes(self, name: str, profile: int, shape: tuple[int, ...]) -> bool:
        """Return whether a profile accepts an input of this shape."""
        fixed = tuple(self.engine.get_tensor_shape(name))
        if min(fixed) >= 0:
            return shape == fixed
        smallest, _, largest = self.engine.get_tensor_profile_shape(name, profile)
        sizes = zip(tuple(smallest), shape, tuple(largest), strict=True)
        return all(low <= size <= high for low, size, high in sizes)

    def _context(self, profile: int) -> Any:
        """Return the execution context for a profile.

        A recording has contexts of its own, because a context must not change after its work was recorded.
        """
        # Contexts keep their engine alive, so its id is unique. A key with this object would keep the object alive.
        contexts, key = self._contexts, (id(self.engine), profile)
        if self.runtime.contexts is not None:
            contexts = self.runtime.contexts
        if key not in contexts:
            context = self.runtime.made_by(self.engine, self._create_context, self.path)
            stream = int(self.runtime.device.compute.handle)
            self.runtime.made_by(context, partial(context.set_optimization_profile_async, profile, stream), self.path)
            contexts[key] = context
        return contexts[key]

    def _create_context(self) -> Any:
        """Create an execution context without memory of its own."""
        strategy = self.runtime.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self.runtime.kernels is None:
            return self.engine.create_execution_context(strategy)
        config = self.engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        self.runtime.kernels.configure(config, shapes_return=self.runtime.contexts is not None)
        return self.engine.create_execution_context(config)
