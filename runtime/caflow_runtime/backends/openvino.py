"""Graphs through OpenVINO, on the CPU.

Each graph runs in its own types. By default OpenVINO computes in whatever the CPU is fastest with, which would make the
flow's state bfloat16 and its inverse another function; so networks run in bfloat16 only in bundles of that precision.
"""

import sys
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from caflow_runtime.backends.backend import explaining
from caflow_runtime.backends.host_arrays import HostArrays
from caflow_runtime.errors import BackendError
from caflow_runtime.flow.scan import Array, Arrays, Graph

DEVICE = "CPU"
TELEMETRY = "openvino_telemetry"


class OpenVino(HostArrays):
    """Graphs on the CPU; device arrays are numpy's, those of bfloat16 as uint16."""

    name = "openvino cpu"

    def __init__(self, threads: int = 0) -> None:
        """
        Arguments:
            threads: for the graphs' operators; 0 is one per core.

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
            "ENABLE_CPU_PINNING": False,  # workers of one machine would all be pinned to the same cores
        }

    def load(self, path: Path) -> Graph:
        compiled = self._core.compile_model(path, DEVICE, self._settings)
        inputs = [(port.any_name, port.get_element_type(), _sizes(port)) for port in compiled.inputs]
        outputs = [port.any_name for port in compiled.outputs]
        idle: SimpleQueue[Any] = SimpleQueue()  # a request serves one thread at a time

        def run(arrays: Arrays) -> dict[str, Array]:
            with explaining(path):
                for name, _, sizes in inputs:
                    _check_shape(name, arrays[name].shape, sizes)
                given = {name: self._tensor(arrays[name], kind) for name, kind, _ in inputs}
                try:
                    request = idle.get_nowait()
                except Empty:
                    request = compiled.create_infer_request()
                request.infer(given)
                found = {name: self._copy(request.get_tensor(name)) for name in outputs}
                idle.put(request)
                return found

        return run

    def _tensor(self, array: Array, kind: Any) -> Any:
        """An array as OpenVINO takes it, without a copy."""
        array = np.ascontiguousarray(array)
        return self._openvino.Tensor(array, array.shape, kind) if array.dtype == np.uint16 else array

    def _copy(self, tensor: Any) -> Array:
        """A request's output, which its next run overwrites."""
        array = np.array(tensor.data)
        return array.view(np.uint16) if tensor.element_type == self._openvino.Type.bf16 else array


def _sizes(port: Any) -> list[int | None]:
    """Sizes of an input; None for each size that is free."""
    return [size.get_length() if size.is_static else None for size in port.get_partial_shape()]


def _check_shape(name: str, shape: tuple[int, ...], sizes: list[int | None]) -> None:
    """Check that an input has the rank of its graph's input, and the sizes that are fixed there.

    OpenVINO does not check inputs that have a free size. For a wrong shape it returns empty outputs or, after a run
    with a right one, outputs of that run's size with arbitrary values.

    Raises:
        ValueError: if the shape differs.
    """
    if len(shape) != len(sizes) or any(size not in (None, given) for given, size in zip(shape, sizes, strict=True)):
        wanted = ", ".join("any" if size is None else str(size) for size in sizes)
        raise ValueError(f"wants an input {name!r} of shape ({wanted}), got {shape}")


def _import_openvino() -> Any:
    """The package. Its import tells its makers so where it finds its package for that: here it finds none."""
    is_first = TELEMETRY not in sys.modules
    if is_first:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if is_first:
            del sys.modules[TELEMETRY]
    return openvino
