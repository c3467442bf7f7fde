"""ONNX Runtime as a backend: on the CPU, on an NVIDIA GPU, or with any other of its execution providers.

On an NVIDIA GPU, arrays stay on the device between graphs. If ONNX Runtime cannot use the GPU, it silently runs on the
CPU. This module raises an error instead.
"""

import os
from contextlib import redirect_stdout
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.backends.backend import Backend, explaining
from caflow_runtime.backends.host_arrays import HostArrays
from caflow_runtime.bundle.manifest import PrecisionName
from caflow_runtime.errors import BackendError, InputError
from caflow_runtime.flow.scan import Array, Arrays, Graph

Device = Literal["cpu", "cuda"]
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""Execution provider of each device."""
TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(uint8)": "uint8",
    "tensor(int64)": "int64",
}
"""Types of ONNX Runtime's tensors, and their names in manifests."""
BUILDS = (
    *("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml"),
    *("onnxruntime-openvino", "onnxruntime-rocm", "onnxruntime-migraphx"),
)
"""Packages that each contain a complete ONNX Runtime. All of them install their files in the same place."""
ERRORS_ONLY = 3
"""Log level of ONNX Runtime: report errors, but no warnings."""


class OnnxRuntimeCpu(HostArrays):
    """ONNX Runtime on the CPU. Device arrays are NumPy arrays."""

    name = "onnxruntime cpu"
    provider = PROVIDERS["cpu"]
    lacks: frozenset[PrecisionName] = frozenset(("bf16",))
    _run_options: Any = None

    def __init__(self, threads: int = 0) -> None:
        """Open ONNX Runtime on the CPU.

        Arguments:
            threads: number of threads for the operators of a graph; 0 is one per core.

        Raises:
            BackendError: if ONNX Runtime is not installed, or installed twice.
        """
        check_installed("cpu")
        self.threads = threads

    def load(self, path: Path) -> Graph:
        session = open_session(path, self.provider, self.threads)
        inputs = [value.name for value in session.get_inputs()]
        outputs = [value.name for value in session.get_outputs()]

        def run(arrays: Arrays) -> dict[str, Array]:
            with explaining(path):
                given = {name: arrays[name] for name in inputs}
                return dict(zip(outputs, session.run(outputs, given, self._run_options), strict=True))

        return run

    def spare_memory(self) -> bool:
        """Free the unused memory of the arena at the end of each run.

        By default the arena keeps all memory that its largest run took. Arrays outside the arena may then find no
        memory.
        """
        self._run_options = import_onnxruntime().RunOptions()
        self._run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return True


class OnnxRuntimeByName(OnnxRuntimeCpu):
    """ONNX Runtime with any execution provider of the installed build. The CPU runs operators that the provider lacks.

    Arrays are in host memory between graphs.
    """

    is_proven = False

    def __init__(self, provider: str, threads: int = 0) -> None:
        """Open ONNX Runtime with another execution provider.

        Arguments:
            provider: name of the execution provider, in upper or lower case, with or without "ExecutionProvider": "dml"
                is DmlExecutionProvider.
            threads: number of threads for the operators of a graph; 0 is one per core.

        Raises:
            BackendError: if the installed build has no such provider.
        """
        super().__init__(threads)
        known = {short_name(found): found for found in import_onnxruntime().get_available_providers()}
        if short_name(provider) not in known:
            raise BackendError(
                f"this build of ONNX Runtime has no execution provider {provider!r}; it has {', '.join(known)}",
                "install the build that has this provider instead",
            )
        self.provider = known[short_name(provider)]
        self.name = f"onnxruntime {short_name(provider)}"
        if self.provider != PROVIDERS["cpu"]:
            _load_cuda()


class OnnxRuntimeBound(Backend):
    """ONNX Runtime with inputs and outputs in the memory of a device. Device arrays are ONNX Runtime's `OrtValue`."""

    def __init__(self, device: Device = "cuda", threads: int = 0) -> None:
        """Open ONNX Runtime on a device.

        Arguments:
            threads: number of threads for operators that run on the CPU; 0 is one per core.

        Raises:
            BackendError: if the installed ONNX Runtime does not support the device, or the device cannot be used.
        """
        check_installed(device)
        check_provider(device)
        if device == "cuda":
            _load_cuda()
        self.name = f"onnxruntime {device}"
        self.device = device
        self.threads = threads
        try:
            self.to_device(np.zeros(1, np.float32))
        except Exception as error:  # the exceptions of ONNX Runtime share no base class
            raise _unusable(PROVIDERS[device], str(error)) from None

    def load(self, path: Path) -> Graph:
        session = open_session(path, PROVIDERS[self.device], self.threads)
        inputs = [value.name for value in session.get_inputs()]
        outputs = [value.name for value in session.get_outputs()]

        def run(arrays: Arrays) -> dict[str, Array]:
            with explaining(path):
                binding = session.io_binding()
                for name in inputs:
                    binding.bind_ortvalue_input(name, arrays[name])
                for name in outputs:
                    binding.bind_output(name, self.device)
                session.run_with_iobinding(binding)
                return dict(zip(outputs, binding.get_outputs(), strict=True))

        return run

    def to_device(self, array: NDArray[Any]) -> Array:
        with explaining(self.name):
            return cast(Array, import_onnxruntime().OrtValue.ortvalue_from_numpy(array, self.device, 0))

    def to_host(self, array: Any) -> NDArray[Any]:
        with explaining(self.name):
            return np.asarray(array.numpy())

    def describe(self, array: Any) -> tuple[str, tuple[int, ...]]:
        name = array.data_type()
        return TYPES.get(name, name), tuple(array.shape())

    def take(self, array: Array, rows: NDArray[np.int64]) -> Array:
        # ONNX Runtime cannot index arrays outside a graph. Rows are rarely dropped, so a copy through the host will do.
        return self.to_device(self.to_host(array)[rows])

    def adopt(self, array: Any) -> Array:
        onnxruntime = import_onnxruntime()
        try:
            adopted = onnxruntime.OrtValue.from_dlpack(array)
        except Exception as error:  # the exceptions of ONNX Runtime share no base class
            raise InputError(
                f"expected a contiguous array in {self.device} memory; got {type(array).__name__}: {error}"
            ) from None
        if adopted.device_name() != self.device:
            raise InputError(f"expected an array in {self.device} memory; got one in {adopted.device_name()} memory")
        return cast(Array, adopted)


def import_onnxruntime() -> Any:
    """Import ONNX Runtime and return it, with its telemetry disabled.

    By default, the official builds report to their vendor which models are opened.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime reads this when it is imported
    import onnxruntime

    return onnxruntime


def _load_cuda() -> None:
    """Load the libraries of CUDA and cuDNN. Builds of ONNX Runtime without CUDA load nothing.

    pip installs them in folders that the system does not search. ONNX Runtime finds them if they are loaded already.
    """
    with redirect_stdout(StringIO()):  # it prints what is missing, which an error of the provider says as well
        import_onnxruntime().preload_dlls()


def short_name(provider: str) -> str:
    """Return the short name of an execution provider: "dml" for "DmlExecutionProvider"."""
    return provider.lower().removesuffix("executionprovider")


def open_session(path: Path, provider: str, threads: int) -> Any:
    """Open a session of ONNX Runtime that uses one execution provider.

    Raises:
        BackendError: if ONNX Runtime would use another execution provider.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = ERRORS_ONLY
    # With memory patterns, the second run of a shape would allocate a new block, beside the memory of the first run.
    options.enable_mem_pattern = False
    # Load ONNX files only. ONNX Runtime recognizes its own format by the suffix, and such a file may name other files.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if provider == PROVIDERS["cpu"]:
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
    # Each graph has its own threads. Those of the last graph would otherwise keep spinning on the cores of the next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # With TF32, the inverse functions of the flow would be inaccurate.
    provider_options: dict[str, str] = {"use_tf32": "0"} if provider == PROVIDERS["cuda"] else {}
    providers = [(provider, provider_options)]
    # By default, it would print errors of a provider and use the CPU, so that their reason would be lost.
    session = onnxruntime.InferenceSession(path, options, providers=providers, enable_fallback=0)
    if session.get_providers()[0] != provider:
        raise _unusable(provider, f"it fell back to {session.get_providers()}")
    return session


@cache
def _share_arena() -> None:
    """Create one memory arena for all graphs of the process.

    The graphs run one after the other. A common arena takes less than half the memory of separate arenas.
    """
    onnxruntime = import_onnxruntime()
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, None)


def check_provider(device: Device) -> None:
    """Check that the installed build of ONNX Runtime supports the device.

    Raises:
        BackendError: if the build has no execution provider for the device.
    """
    found = import_onnxruntime().get_available_providers()
    if PROVIDERS[device] not in found:
        raise BackendError(
            f"this build of ONNX Runtime has no {PROVIDERS[device]}; it has {', '.join(found)}",
            _install_anew(installed_builds(), device),
        )


def installed_builds() -> list[str]:
    """Return the installed packages of ONNX Runtime. Several packages would overwrite each other's files."""
    return [name for name in BUILDS if is_installed(name)]


def check_installed(device: Device) -> None:
    """Check that exactly one package of ONNX Runtime is installed, and that it supports the device.

    Raises:
        BackendError: with the command that installs the right package.
    """
    found = installed_builds()
    if len(found) > 1:
        raise BackendError(
            f"{found[0]} and {found[1]} are both installed and overwrite each other's files, so one does not work",
            _install_anew(found, device),
        )
    if not found:
        raise BackendError("ONNX Runtime is not installed", f"pip install 'caflow-deploy[{_extra(device)}]'")
    if device == "cuda" and found != ["onnxruntime-gpu"]:
        raise BackendError(f"the installed package {found[0]} does not support CUDA", _install_anew(found, device))


def is_installed(distribution: str) -> bool:
    """Return whether a package of this name is installed."""
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def _unusable(provider: str, reason: str) -> BackendError:
    cuda = "install an NVIDIA driver, and CUDA 13 with cuDNN 9: pip install 'onnxruntime-gpu[cuda,cudnn]'"
    return BackendError(
        f"ONNX Runtime's {provider} cannot run on this machine ({reason.strip()})",
        cuda if provider == PROVIDERS["cuda"] else "install the device's driver, or use --backend cpu",
    )


def _install_anew(found: list[str], device: Device) -> str:
    return f"pip uninstall -y {' '.join(found)} && pip install 'caflow-deploy[{_extra(device)}]'"


def _extra(device: Device) -> str:
    return "gpu" if device == "cuda" else "cpu"
