"""ONNX Runtime as a backend: with arrays in host memory, or in the memory of an NVIDIA GPU."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.backends.backend import Backend, explained, explaining
from caflow_runtime.backends.engines import Engines
from caflow_runtime.backends.host_arrays import HostArrays
from caflow_runtime.backends.onnx_packages import import_onnxruntime
from caflow_runtime.backends.provider_sessions import ProviderSessions
from caflow_runtime.backends.providers import PROVIDERS
from caflow_runtime.errors import InputError
from caflow_runtime.flow.level_chain import Array, Arrays, Graph
from caflow_runtime.flow.ports import GraphPorts
from caflow_runtime.interruptible import interruptible

TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(uint8)": "uint8",
    "tensor(int64)": "int64",
}
"""Types of ONNX Runtime's tensors, and their names in manifests."""
CUDA = "cuda"
"""ONNX Runtime's name for the memory of NVIDIA GPUs, whichever provider uses it."""


class _Sessions(Backend):
    """Loads graphs as sessions of a provider."""

    memory: str | None = None
    """ONNX Runtime's name for the memory of device arrays. None if they are NumPy arrays."""

    def __init__(self, name: str, sessions: ProviderSessions, engines: Engines | None = None) -> None:
        """Use the sessions of a provider.

        Arguments:
            name: name of the backend for people.
            engines: engines of the bundle, for a provider that compiles graphs.
        """
        self.name = name
        self.sessions = sessions
        self.engines = engines
        self.lacks = sessions.provider.lacks
        self.is_reference = sessions.provider.is_reference
        self.profile = None if engines is None else engines.profile
        self.builds_engines = engines is not None and not engines.are_finished
        self.shrinking: str | None = None
        """Device whose arena frees its unused memory at the end of each run, by ONNX Runtime's name such as "cpu:0"."""

    @property
    def identity(self) -> Mapping[str, str]:
        return {**self.sessions.identity, **({} if self.engines is None else self.engines.identity)}

    def load(self, path: Path, ports: GraphPorts | None = None) -> Graph:
        file, needs = (path, self.sessions.needs()) if self.engines is None else self.engines.file_for(path)
        return _SessionGraph(self, self.sessions.open(file, needs), path, ports)

    def _shrink_arena(self, device: str) -> bool:
        """Free the unused memory of the arena at the end of each run. `device` is as in `shrinking`.

        By default the arena keeps all memory that its largest run took. Arrays outside the arena may then find no
        memory.
        """
        self.shrinking = device
        return True

    def run_options(self) -> Any:
        """Return the options of one run."""
        options = import_onnxruntime().RunOptions()
        if self.shrinking is not None:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", self.shrinking)
        return options


class _SessionGraph:
    """A graph as a session of ONNX Runtime."""

    def __init__(self, backend: _Sessions, session: Any, path: Path, ports: GraphPorts | None) -> None:
        self.backend, self.session, self.path, self.ports = backend, session, path, ports
        self.inputs = [value.name for value in session.get_inputs()]
        self.outputs = [value.name for value in session.get_outputs()]

    def __call__(self, arrays: Arrays) -> dict[str, Array]:
        sizes, options = self.ports.check_inputs(arrays) if self.ports else {}, self.backend.run_options()
        try:
            given = {name: arrays[name] for name in self.inputs}
            found = interruptible(partial(self._run, given, options), partial(setattr, options, "terminate", True))
        except Exception as error:
            raise explained(self.path, error) from error
        results = dict(zip(self.outputs, found, strict=True))
        if self.ports:
            self.ports.check_outputs(results, sizes)
        return results

    def _run(self, given: Arrays, options: Any) -> Any:
        if self.backend.memory is None:
            return self.session.run(self.outputs, given, options)
        binding = self.session.io_binding()
        for name, array in given.items():
            binding.bind_ortvalue_input(name, array)
        for name in self.outputs:
            binding.bind_output(name, self.backend.memory, self.backend.sessions.number)
        self.session.run_with_iobinding(binding, options)
        return binding.get_outputs()


class OnnxRuntime(_Sessions, HostArrays):
    """ONNX Runtime with arrays in host memory. Device arrays are NumPy arrays."""


class OnnxRuntimeCpu(OnnxRuntime):
    """ONNX Runtime on the CPU."""

    name = "onnxruntime cpu"
    is_cpu = True
    lacks = PROVIDERS["cpu"].lacks

    def __init__(self, threads: int = 0) -> None:
        """Open ONNX Runtime on the CPU.

        Arguments:
            threads: number of threads for the operators of a graph; 0 is one per core.

        Raises:
            BackendError: if ONNX Runtime is not installed, or installed twice.
        """
        super().__init__(self.name, ProviderSessions(PROVIDERS["cpu"], threads=threads))
        import_onnxruntime()  # before memory is estimated: the size of its libraries depends on their version

    def spare_memory(self) -> bool:
        return self._shrink_arena("cpu:0")


class OnnxRuntimeBound(_Sessions):
    """ONNX Runtime with inputs and outputs in the memory of a device. Device arrays are ONNX Runtime's `OrtValue`.

    Rows are selected on the host, because ONNX Runtime cannot index arrays. `OnnxRuntimeCupy` does that on the GPU.
    """

    def __init__(
        self, name: str, sessions: ProviderSessions, engines: Engines | None = None, memory: str = CUDA
    ) -> None:
        """Use the sessions of a provider. `memory` is ONNX Runtime's name for the memory of its device."""
        super().__init__(name, sessions, engines)
        self.memory = memory

    def to_device(self, array: NDArray[Any]) -> Array:
        values, number = import_onnxruntime().OrtValue, self.sessions.number
        with explaining(self.name):
            return cast(Array, values.ortvalue_from_numpy(np.ascontiguousarray(array), self.memory, number))

    def to_host(self, array: Any) -> NDArray[Any]:
        with explaining(self.name):
            return np.array(array.numpy())  # a copy, because of host memory it is a view that the value does not keep

    def describe(self, array: Any) -> tuple[str, tuple[int, ...]]:
        name = array.data_type()
        return TYPES.get(name, name), tuple(array.shape())

    def take(self, array: Array, items: NDArray[np.int64]) -> Array:
        return self.to_device(self.to_host(array)[items])

    def adopt(self, array: Any) -> Array:
        number = self.sessions.number
        wanted = f"expected a contiguous array in {self.memory} memory of device {number}"
        try:
            adopted = import_onnxruntime().OrtValue.from_dlpack(array)
        except Exception as error:  # the exceptions of ONNX Runtime share no base class
            raise InputError(f"{wanted}; got {type(array).__name__}: {error}") from None
        device = adopted.__dlpack_device__()[1]
        if (adopted.device_name(), device) != (self.memory, number):
            raise InputError(f"{wanted}; got one in {adopted.device_name()} memory of device {device}")
        return cast(Array, adopted)

    def spare_memory(self) -> bool:
        return self._shrink_arena(f"gpu:{self.sessions.number}")
