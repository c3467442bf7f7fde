"""Backends by name."""

import warnings
from pathlib import Path

from caflow_runtime.backends import MOST_THREADS
from caflow_runtime.backends.backend import Backend
from caflow_runtime.backends.onnx_runtime import (
    Device,
    OnnxRuntimeBound,
    OnnxRuntimeByName,
    OnnxRuntimeCpu,
    check_installed,
    is_installed,
)
from caflow_runtime.checks import check_integer
from caflow_runtime.errors import BackendError

BackendName = str
"""One of BACKENDS, or "ort:NAME" for an execution provider of ONNX Runtime, such as "ort:dml"."""
BACKENDS = ("auto", "cpu", "cuda", "openvino", "tensorrt")
GPU_BACKENDS = ("auto", "cuda", "tensorrt")
"""Those that run on an NVIDIA GPU, or may."""
PROVIDER_PREFIX = "ort:"


def open_backend(name: BackendName, folder: Path, threads: int = 0) -> Backend:
    """The backend of that name; "auto" is CUDA where ONNX Runtime's GPU package is installed and works, else the CPU.

    Arguments:
        folder: of the bundle, whose engines "tensorrt" runs.
        threads: up to MOST_THREADS; 0 is one per core.

    Raises:
        BackendError: if it cannot run here.
        InputError: if there cannot be so many threads.
    """
    check_integer("threads", threads, 0, MOST_THREADS)
    if isinstance(name, str) and name.startswith(PROVIDER_PREFIX):
        return OnnxRuntimeByName(name.removeprefix(PROVIDER_PREFIX), threads)
    match name:
        case "auto":
            return _open_best(threads)
        case "cpu" | "cuda":
            return open_onnx_runtime(name, threads)
        case "openvino":
            from caflow_runtime.backends.openvino import OpenVino

            return OpenVino(threads)
        case "tensorrt":
            from caflow_runtime.backends.tensorrt import TensorRT

            return TensorRT.on_the_gpu(folder)
    raise BackendError(f"wanted a backend of {', '.join(BACKENDS)} or {PROVIDER_PREFIX}PROVIDER, got {name!r}")


def open_onnx_runtime(device: Device, threads: int = 0) -> Backend:
    """ONNX Runtime on a device.

    Raises:
        BackendError: if it cannot run there.
    """
    return OnnxRuntimeCpu(threads) if device == "cpu" else OnnxRuntimeBound(device, threads)


def _open_best(threads: int) -> Backend:
    if is_installed("onnxruntime-gpu"):
        check_installed("cuda")
        try:
            return open_onnx_runtime("cuda", threads)
        except BackendError as error:
            warnings.warn(f"running on the CPU: {error}", stacklevel=3)
    return open_onnx_runtime("cpu", threads)
