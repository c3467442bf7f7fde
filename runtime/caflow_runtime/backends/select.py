"""Choice of a backend by its name."""

import warnings
from pathlib import Path

import numpy as np

from caflow_runtime.backends import MAX_THREADS
from caflow_runtime.backends.backend import Backend
from caflow_runtime.backends.cupy_runtime import OnnxRuntimeCupy
from caflow_runtime.backends.engines import Engines, machine_of
from caflow_runtime.backends.onnx_packages import check_installed, import_onnxruntime, installed_builds, is_installed
from caflow_runtime.backends.onnx_runtime import OnnxRuntime, OnnxRuntimeBound, OnnxRuntimeCpu
from caflow_runtime.backends.openvino import OpenVino
from caflow_runtime.backends.provider_sessions import ProviderSessions
from caflow_runtime.backends.providers import PREFIX, PROVIDERS, Provider, provider_of
from caflow_runtime.checks import check_integer, shown
from caflow_runtime.errors import BackendError

BackendName = str
"""Name of a backend: one of `BACKENDS`, or "ort:NAME" for another execution provider of ONNX Runtime, such as
"ort:openvino". The number of a device may follow, as in "cuda:1"."""
BACKENDS = ("auto", *PROVIDERS, "openvino")


def open_backend(name: BackendName, folder: Path, threads: int = 0) -> Backend:
    """Open the backend of that name.

    "auto" is CUDA if ONNX Runtime's GPU package is installed and works, else the CPU.

    Arguments:
        folder: folder of the bundle, which may contain finished engines.
        threads: number of threads on the CPU, up to MAX_THREADS; 0 is one per core.

    Raises:
        BackendError: if there is no such backend, or it cannot run on this machine.
        InputError: if the number of threads is out of range.
    """
    check_integer("threads", threads, 0, MAX_THREADS)
    base, number = split_device(name)
    match base:
        case "auto":
            return _open_best(folder, threads)
        case "cpu":
            return OnnxRuntimeCpu(threads)
        case "openvino":
            return OpenVino(threads)
    builtin = import_onnxruntime().get_available_providers() if installed_builds() else []
    provider = provider_of(base, builtin)
    if provider is None:
        others = f"; this ONNX Runtime has {', '.join(builtin)}" if base.startswith(PREFIX) else ""
        raise BackendError(f"backend: expected one of {', '.join(BACKENDS)} or {PREFIX}PROVIDER; got {name!r}{others}")
    if provider.is_reference:
        return OnnxRuntimeCpu(threads)
    return _open_provider(provider, ProviderSessions(provider, number, threads), base, folder)


def split_device(name: BackendName) -> tuple[str, int]:
    """Split the name of a backend into the name without a device, and the number of the device: "cuda", 1 for "cuda:1".

    Raises:
        BackendError: if the name is no text, or a backend without devices has a number.
    """
    if not isinstance(name, str):
        raise BackendError(f"backend: expected one of {', '.join(BACKENDS)} or {PREFIX}PROVIDER; got {shown(name)}")
    base, _, number = name.rpartition(":")
    if not (base and number.isdecimal()):
        return name, 0
    if base in ("auto", "cpu", "openvino"):
        raise BackendError(f"{base} has no devices with numbers; got {name!r}", f"use `backend` {base}")
    return base, int(number)


def may_use_gpu(name: BackendName) -> bool:
    """Return whether a backend runs on an NVIDIA GPU, or may do so."""
    base, _ = split_device(name)
    provider = provider_of(base, [])
    return base == "auto" or (provider is not None and provider.is_on_gpu)


def _open_provider(provider: Provider, sessions: ProviderSessions, base: str, folder: Path) -> Backend:
    name = f"onnxruntime {base.removeprefix(PREFIX).lower()}"
    name += f":{sessions.number}" if sessions.number else ""
    if sessions.gpu is None:
        return OnnxRuntime(name, sessions)
    engines = None
    if provider.flavor is not None:
        engines = Engines(folder, sessions, machine_of(sessions, provider.flavor, sessions.gpu))
    backend = OnnxRuntimeBound(name, sessions, engines)
    try:
        backend.to_host(backend.to_device(np.zeros(1, np.float32)))
    except BackendError as error:
        if provider.plugin is None:
            raise sessions.unusable(str(error)) from None
        can_bind = False
    else:
        can_bind = True
    try:
        return OnnxRuntimeCupy(name, sessions, engines)
    except ImportError:
        if can_bind:
            return backend
    warnings.warn(
        f"{name} copies arrays to the GPU and back for each graph, because without CuPy this onnxruntime cannot place "
        f"arrays in the memory of a plug-in: pip install '{provider.install}'",
        stacklevel=3,
    )
    return OnnxRuntime(name, sessions, engines)


def _open_best(folder: Path, threads: int) -> Backend:
    if is_installed("onnxruntime-gpu"):
        check_installed(PROVIDERS["cuda"])
        try:
            return open_backend("cuda", folder, threads)
        except BackendError as error:
            warnings.warn(f"running on the CPU, because CUDA cannot be used: {error}", stacklevel=3)
    return OnnxRuntimeCpu(threads)
