"""Choice of a backend by its name."""

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
"""Name of a backend: "auto", "cpu", "cuda", "openvino" or "tensorrt"; or "ort:NAME" for another execution provider of
ONNX Runtime, such as "ort:dml"."""
BACKENDS = ("auto", "cpu", "cuda", "openvino", "tensorrt")
GPU_BACKENDS = ("auto", "cuda", "tensorrt")
"""Backends that run on an NVIDIA GPU, or may do so."""
PROVIDER_PREFIX = "ort:"


def open_backend(name: BackendName, folder: Path, threads: int = 0) -> Backend:
    """Open the backend of that name.

    "auto" is CUDA if ONNX Runtime's GPU package is installed and works, else the CPU.

    Arguments:
        folder: folder of the bundle, which contains the engines for "tensorrt".
        threads: number of threads on the CPU, up to MOST_THREADS; 0 is one per core.

    Raises:
        BackendError: if there is no such backend, or it cannot run on this machine.
        InputError: if the number of threads is out of range.
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
    raise BackendError(f"backend: expected one of {', '.join(BACKENDS)} or {PROVIDER_PREFIX}PROVIDER; got {name!r}")


def open_onnx_runtime(device: Device, threads: int = 0) -> Backend:
    """Open ONNX Runtime on a device.

    Raises:
        BackendError: if ONNX Runtime cannot use the device.
    """
    return OnnxRuntimeCpu(threads) if device == "cpu" else OnnxRuntimeBound(device, threads)


def _open_best(threads: int) -> Backend:
    if is_installed("onnxruntime-gpu"):
        check_installed("cuda")
        try:
            return open_onnx_runtime("cuda", threads)
        except BackendError as error:
            warnings.warn(f"running on the CPU, because CUDA cannot be used: {error}", stacklevel=3)
    return open_onnx_runtime("cpu", threads)
