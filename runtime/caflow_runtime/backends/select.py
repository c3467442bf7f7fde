"""Backends by name."""

import warnings
from pathlib import Path
from typing import Literal, get_args

from caflow_runtime.backends import MOST_THREADS
from caflow_runtime.backends.backend import Backend
from caflow_runtime.backends.onnx_runtime import Device, OnnxRuntimeBound, OnnxRuntimeCpu, check_installed, is_installed
from caflow_runtime.checks import check_integer
from caflow_runtime.errors import BackendError

BackendName = Literal["auto", "cpu", "cuda", "tensorrt"]


def open_backend(name: BackendName, folder: Path, threads: int = 0) -> Backend:
    """The backend of that name; "auto" is CUDA where ONNX Runtime's GPU package is installed and works, else the CPU.

    Arguments:
        folder: of the bundle, whose engines "tensorrt" runs.
        threads: up to MOST_THREADS; 0 is one per core.

    Raises:
        BackendError: if it cannot run here.
        InputError: if there cannot be so many threads.
    """
    if name not in get_args(BackendName):
        raise BackendError(f"wanted a backend of {', '.join(get_args(BackendName))}, got {name!r}")
    check_integer("threads", threads, 0, MOST_THREADS)
    if name == "tensorrt":
        from caflow_runtime.backends.tensorrt import TensorRT

        return TensorRT.on_the_gpu(folder)
    if name != "auto":
        return open_onnx_runtime(name, threads)
    if is_installed("onnxruntime-gpu"):
        check_installed("cuda")
        try:
            return open_onnx_runtime("cuda", threads)
        except BackendError as error:
            warnings.warn(f"running on the CPU: {error}", stacklevel=2)
    return open_onnx_runtime("cpu", threads)


def open_onnx_runtime(device: Device, threads: int = 0) -> Backend:
    """ONNX Runtime on a device.

    Raises:
        BackendError: if it cannot run there.
    """
    return OnnxRuntimeCpu(threads) if device == "cpu" else OnnxRuntimeBound(device, threads)
