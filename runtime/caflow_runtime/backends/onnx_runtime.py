"""Graphs through ONNX Runtime: on the CPU; on an NVIDIA GPU, with values that stay on the device between graphs; or by
any of its execution providers.

ONNX Runtime runs on the CPU without a word where it cannot use the GPU; here the device that was asked for is the one
that runs, or it is an error.
"""

import os
from functools import cache
from importlib.metadata import PackageNotFoundError, version
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
TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(uint8)": "uint8",
    "tensor(int64)": "int64",
}
"""As manifests name them."""
BUILDS = (
    *("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml"),
    *("onnxruntime-openvino", "onnxruntime-rocm", "onnxruntime-migraphx"),
)
"""Packages that each hold a whole ONNX Runtime, in the same place."""
ERRORS_ONLY = 3


class OnnxRuntimeCpu(HostArrays):
    """Graphs on the CPU; device arrays are numpy's."""

    name = "onnxruntime cpu"
    provider = PROVIDERS["cpu"]
    lacks: frozenset[PrecisionName] = frozenset(("bf16",))
    _run_options: Any = None

    def __init__(self, threads: int = 0) -> None:
        """`threads`: for the graphs' operators; 0 is one per core."""
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
        """Free unused memory of the arena at the end of each run. By default the arena keeps what its largest run
        took, and arrays outside of it then find no room."""
        self._run_options = import_onnxruntime().RunOptions()
        self._run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return True


class OnnxRuntimeByName(OnnxRuntimeCpu):
    """Graphs by any execution provider that this build of ONNX Runtime has; what it lacks, the CPU's runs.

    Arrays are in the host's memory between graphs.
    """

    is_proven = False

    def __init__(self, provider: str, threads: int = 0) -> None:
        """
        Arguments:
            provider: its name, in any case, with or without "ExecutionProvider": "dml" is DmlExecutionProvider.

        Raises:
            BackendError: if this build has no such provider.
        """
        super().__init__(threads)
        known = {short_name(found): found for found in import_onnxruntime().get_available_providers()}
        if short_name(provider) not in known:
            raise BackendError(
                f"this build of ONNX Runtime has no execution provider {provider!r}, but {', '.join(known)}",
                "install the build that has it in place of this one",
            )
        self.provider = known[short_name(provider)]
        self.name = f"onnxruntime {short_name(provider)}"


class OnnxRuntimeBound(Backend):
    """Graphs whose inputs and outputs are bound to a device's memory; device arrays are ONNX Runtime's `OrtValue`."""

    def __init__(self, device: Device = "cuda", threads: int = 0) -> None:
        check_installed(device)
        check_provider(device)
        self.name = f"onnxruntime {device}"
        self.device = device
        self.threads = threads
        try:
            self.to_device(np.zeros(1, np.float32))
        except Exception as error:  # its exceptions share no base class
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
        return np.asarray(array.numpy())

    def describe(self, array: Any) -> tuple[str, tuple[int, ...]]:
        name = array.data_type()
        return TYPES.get(name, name), tuple(array.shape())

    def take(self, array: Array, rows: NDArray[np.int64]) -> Array:
        # ONNX Runtime has no indexing outside a graph; a pruned row is rare enough to go through the host.
        return self.to_device(self.to_host(array)[rows])

    def adopt(self, array: Any) -> Array:
        onnxruntime = import_onnxruntime()
        try:
            adopted = onnxruntime.OrtValue.from_dlpack(array)
        except Exception as error:  # its exceptions share no base class
            raise InputError(
                f"wanted a contiguous array in {self.device} memory, got {type(array).__name__}: {error}"
            ) from None
        if adopted.device_name() != self.device:
            raise InputError(f"wanted an array in {self.device} memory, got one in {adopted.device_name()} memory")
        return cast(Array, adopted)


def import_onnxruntime() -> Any:
    """The package. Its official builds tell their makers of models that are opened; here they are told not to."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at the import
    import onnxruntime

    return onnxruntime


def short_name(provider: str) -> str:
    """Of an execution provider: "dml" of "DmlExecutionProvider"."""
    return provider.lower().removesuffix("executionprovider")


def open_session(path: Path, provider: str, threads: int) -> Any:
    """An ONNX Runtime session of an execution provider.

    Raises:
        BackendError: if another one would run it.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = ERRORS_ONLY
    # A second run of a shape would be given a block of its own, planned by the first, beside what that has left.
    options.enable_mem_pattern = False
    # ONNX Runtime has a format of its own, which it recognizes by the file's suffix, and which may name other files.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if provider == PROVIDERS["cpu"]:
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
    # Each graph has its own threads; those of the last one would spin on while the next one runs, on the same cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # TF32 would cost the inverses their accuracy.
    provider_options: dict[str, str] = {"use_tf32": "0"} if provider == PROVIDERS["cuda"] else {}
    session = onnxruntime.InferenceSession(path, options, providers=[(provider, provider_options)])
    if session.get_providers()[0] != provider:
        raise _unusable(provider, f"it fell back to {session.get_providers()}")
    return session


@cache
def _share_arena() -> None:
    """One memory for all graphs of the process, which run one after the other: less than half of one for each."""
    onnxruntime = import_onnxruntime()
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, None)


def check_provider(device: Device) -> None:
    """Whether this build of ONNX Runtime knows the device.

    Raises:
        BackendError
    """
    found = import_onnxruntime().get_available_providers()
    if PROVIDERS[device] not in found:
        raise BackendError(
            f"wanted ONNX Runtime's {PROVIDERS[device]}, this build of it has {found}",
            _install_anew(installed_builds(), device),
        )


def installed_builds() -> list[str]:
    """Which packages of ONNX Runtime are installed; each but one loses files to the others."""
    return [name for name in BUILDS if is_installed(name)]


def check_installed(device: Device) -> None:
    """Exactly one of ONNX Runtime's packages, the right one for the device.

    Raises:
        BackendError
    """
    found = installed_builds()
    if len(found) > 1:
        raise BackendError(
            f"{found[0]} and {found[1]} are both installed and overwrite each other's files, so one of them is lost",
            _install_anew(found, device),
        )
    if not found:
        raise BackendError("ONNX Runtime is not installed", f"pip install 'caflow-deploy[{_extra(device)}]'")
    if device == "cuda" and found != ["onnxruntime-gpu"]:
        raise BackendError(f"{found[0]} is installed, which does not run on CUDA", _install_anew(found, device))


def is_installed(distribution: str) -> bool:
    """Whether pip knows a package of that name."""
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def _unusable(provider: str, reason: str) -> BackendError:
    cuda = "install an NVIDIA driver, and CUDA 13 with cuDNN 9 by pip install 'onnxruntime-gpu[cuda,cudnn]'"
    return BackendError(
        f"wanted ONNX Runtime's {provider}, but it cannot run here ({reason.strip()})",
        cuda if provider == PROVIDERS["cuda"] else "install the device's driver, or give --backend cpu",
    )


def _install_anew(found: list[str], device: Device) -> str:
    return f"pip uninstall -y {' '.join(found)} && pip install 'caflow-deploy[{_extra(device)}]'"


def _extra(device: Device) -> str:
    return "gpu" if device == "cuda" else "cpu"
