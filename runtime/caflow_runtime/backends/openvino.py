"""OpenVINO as a backend, on the CPU.

OpenVINO's own library runs the graphs, because its plug-in for ONNX Runtime offers no CPU device on processors that are
not Intel's. Each graph runs in the number types of its ONNX file. By default, OpenVINO would use the fastest type of
the CPU, such as bfloat16. The state of the flow would then be inaccurate, and its inverse would be another function. So
networks run in bfloat16 only in bundles of that precision.
"""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from caflow_runtime.backends.backend import explaining
from caflow_runtime.backends.host_arrays import HostArrays
from caflow_runtime.errors import BackendError
from caflow_runtime.flow.level_chain import Array, Arrays, Graph
from caflow_runtime.flow.ports import GraphPorts
from caflow_runtime.interruptible import interruptible

DEVICE = "CPU"
TELEMETRY = "openvino_telemetry"


class OpenVino(HostArrays):
    """OpenVINO on the CPU. Device arrays are NumPy arrays; values of type bfloat16 are stored as uint16."""

    name = "openvino cpu"
    is_cpu = True

    def __init__(self, threads: int = 0) -> None:
        """Open OpenVINO on the CPU.

        Arguments:
            threads: number of threads for the operators of a graph; 0 is one per core.

        Raises:
            BackendError: if OpenVINO is not installed.
        """
        try:
            self._openvino = _import_openvino()
        except ModuleNotFoundError:
            raise BackendError("OpenVINO is not installed", "pip install 'caflow-deploy[openvino]'") from None
        self._core = self._openvino.Core()
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # else several processes would all use the same cores
        }

    @property
    def identity(self) -> Mapping[str, str]:
        device = self._core.get_property(DEVICE, "FULL_DEVICE_NAME")
        return {"provider": "OpenVINO", "openvino": self._openvino.__version__, "device": str(device)}

    def load(self, path: Path, ports: GraphPorts | None = None) -> Graph:
        compiled = self._core.compile_model(path, DEVICE, self._settings)
        inputs = [(port.any_name, port.get_element_type(), _sizes(port)) for port in compiled.inputs]
        outputs = [port.any_name for port in compiled.outputs]
        idle: SimpleQueue[Any] = SimpleQueue()  # only one thread at a time may use a request

        def run(arrays: Arrays) -> dict[str, Array]:
            known = ports.check_inputs(arrays) if ports else {}
            with explaining(path):
                for name, _, sizes in inputs:
                    _check_shape(name, arrays[name].shape, sizes)
                given = {name: self._tensor(arrays[name], kind) for name, kind, _ in inputs}
                try:
                    request = idle.get_nowait()
                except Empty:
                    request = compiled.create_infer_request()
                interruptible(partial(request.infer, given), request.cancel)
                found = {name: self._copy(request.get_tensor(name)) for name in outputs}
                idle.put(request)
            if ports:
                ports.check_outputs(found, known)
            return found

        return run

    def _tensor(self, array: Array, kind: Any) -> Any:
        """Return an array as an input of OpenVINO. A contiguous array is not copied."""
        array = np.ascontiguousarray(array)
        return self._openvino.Tensor(array, array.shape, kind) if array.dtype == np.uint16 else array

    def _copy(self, tensor: Any) -> Array:
        """Return a copy of a request's output. The request's next run overwrites the original."""
        array = np.array(tensor.data)
        return array.view(np.uint16) if tensor.element_type == self._openvino.Type.bf16 else array


def _sizes(port: Any) -> list[int | None]:
    """Return the sizes of an input. A size that may vary is None."""
    return [size.get_length() if size.is_static else None for size in port.get_partial_shape()]


def _check_shape(name: str, shape: tuple[int, ...], sizes: list[int | None]) -> None:
    """Check that an input has the rank of the graph's input, and its fixed sizes.

    OpenVINO does not check inputs that have a variable size. For a wrong shape, it returns empty outputs. After a run
    with a right shape, it returns outputs of that run's size with arbitrary values.

    Raises:
        ValueError: if the shape differs.
    """
    if len(shape) != len(sizes) or any(size not in (None, given) for given, size in zip(shape, sizes, strict=True)):
        wanted = ", ".join("any" if size is None else str(size) for size in sizes)
        raise ValueError(f"input {name!r}: expected shape ({wanted}); got {shape}")


def _import_openvino() -> Any:
    """Import OpenVINO and return it, without its telemetry.

    OpenVINO reports its import to its vendor if the telemetry package is installed. The import below does not find that
    package.
    """
    is_first = TELEMETRY not in sys.modules
    if is_first:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if is_first:
            del sys.modules[TELEMETRY]
    return openvino
