"""Backends by name."""

import warnings
from typing import Literal, get_args

from caflow_runtime.backends.backend import Backend
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeBound, OnnxRuntimeCpu, check_installed, is_installed
from caflow_runtime.errors import BackendError

BackendName = Literal["auto", "cpu", "cuda"]


def open_backend(name: BackendName, threads: int = 0) -> Backend:
    """The backend of that name; "auto" is CUDA where ONNX Runtime's GPU package is installed and works, else the CPU.

    Raises:
        BackendError: if it cannot run here.
    """
    if name not in get_args(BackendName):
        raise BackendError(f"wanted a backend of {', '.join(get_args(BackendName))}, got {name!r}")
    if name == "cpu":
        return OnnxRuntimeCpu(threads)
    if name == "cuda":
        return OnnxRuntimeBound("cuda", threads)
    if is_installed("onnxruntime-gpu"):
        check_installed("cuda")
        try:
            return OnnxRuntimeBound("cuda", threads)
        except BackendError as error:
            warnings.warn(f"running on the CPU: {error}", stacklevel=2)
    return OnnxRuntimeCpu(threads)
