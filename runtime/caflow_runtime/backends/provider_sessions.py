"""Sessions of ONNX Runtime with one execution provider on one device.

If a provider cannot run, ONNX Runtime silently runs on the CPU. This module raises an error instead.
"""

import importlib
import os
from collections.abc import Mapping
from contextlib import redirect_stdout
from functools import cache, partial
from io import StringIO
from pathlib import Path
from typing import Any

from caflow_runtime.backends.gpu import Gpu, gpu
from caflow_runtime.backends.onnx_packages import check_installed, import_onnxruntime
from caflow_runtime.backends.providers import Provider, SessionNeeds
from caflow_runtime.errors import BackendError
from caflow_runtime.interruptible import interruptible

ERRORS_ONLY = 3
"""Log level of ONNX Runtime: report errors, but no warnings."""


class ProviderSessions:
    """Opens sessions with one provider on one device."""

    def __init__(self, provider: Provider, number: int = 0, threads: int = 0) -> None:
        """Load the libraries of the provider, and find its device.

        Arguments:
            number: number of the device.
            threads: number of threads for operators that run on the CPU; 0 is one per core.

        Raises:
            BackendError: if a package, the driver or the device is missing.
        """
        check_installed(provider)
        self.provider = provider
        self.number = number
        self.threads = threads
        self.gpu: Gpu | None = gpu(number) if provider.is_on_gpu else None
        if provider.flavor is not None:
            # TensorRT's providers have no option for TF32, with which the inverse functions of the flow would be
            # inaccurate. NVIDIA's libraries read this variable, when an engine is built and when it runs.
            os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
        self.libraries = None if provider.libraries is None else _module(provider.libraries, provider)
        self.plugin = None if provider.plugin is None else _module(provider.plugin, provider)
        self._device = None if self.plugin is None else _device_of(provider, self.plugin, number)
        if self.gpu is not None and self.plugin is None:
            _load_cuda()

    @property
    def identity(self) -> Mapping[str, str]:
        """What the results depend on besides the bundle: versions, and the name of the device."""
        metadata = {} if self._device is None else self._device.ep_metadata
        name = metadata.get("FULL_DEVICE_NAME") or _processor() if self.gpu is None else self.gpu.name
        versions = {"onnxruntime": import_onnxruntime().__version__, "plug-in": metadata.get("version", "")}
        return {"provider": self.provider.name, "device": name} | versions

    def needs(self, **more: Any) -> SessionNeeds:
        """Return what the options of a session depend on. `more` are the cache and the shapes."""
        return SessionNeeds(self.number, self.threads, **more)

    def open(self, path: Path, needs: SessionNeeds) -> Any:
        """Open a session for an ONNX file.

        Raises:
            BackendError: if ONNX Runtime would use another provider.
        """
        onnxruntime, options = import_onnxruntime(), self._options(needs)
        name = self.provider.name
        providers = None if self._device is not None else [(name, self.provider.options(needs))]
        # By default, it would print errors of a provider and use the CPU, so that their reason would be lost.
        session = interruptible(
            partial(onnxruntime.InferenceSession, path, options, providers=providers, enable_fallback=0),
            partial(options.set_load_cancellation_flag, True),
        )
        if session.get_providers()[0] != name:
            raise self.unusable(f"it fell back to {', '.join(session.get_providers())}")
        return session

    def compile(self, path: Path, needs: SessionNeeds, compiled: Path) -> None:
        """Compile an ONNX file for the device, and write the result to an ONNX file, which `open` can load."""
        compiler = import_onnxruntime().ModelCompiler(self._options(needs), path, embed_compiled_data_into_model=True)
        compiler.compile_to_file(str(compiled))

    def unusable(self, reason: str) -> BackendError:
        """Return the error for a provider that cannot run on this machine."""
        return BackendError(
            f"ONNX Runtime's {self.provider.name} cannot run on this machine ({reason.strip()})",
            f"pip install '{self.provider.install}', and install the driver of the device; or use `backend` cpu",
        )

    def _options(self, needs: SessionNeeds) -> Any:
        options = import_onnxruntime().SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = ERRORS_ONLY
        # With memory patterns, the second run of a shape would allocate a block beside the memory of the first run.
        options.enable_mem_pattern = False
        # Load ONNX files only. ONNX Runtime recognizes its own format by the suffix, and such a file may name others.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        # Each graph has its own threads. Those of the last graph would else keep spinning on the cores of the next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if self.provider.is_reference:
            _share_arena()
            options.add_session_config_entry("session.use_env_allocators", "1")
        if self.provider.flavor is not None:  # CUDA's provider leaves computations of shapes to the CPU, as it should
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if self._device is not None:
            options.add_provider_for_devices([self._device], self.provider.options(needs))
        return options


def _module(name: str, provider: Provider) -> Any:
    """Import the Python module of a plug-in, or one that loads libraries."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BackendError(
            f"the module {name} cannot be imported ({error})", f"pip install '{provider.install}'"
        ) from None


def _device_of(provider: Provider, plugin: Any, number: int) -> Any:
    """Register a plug-in library, and return its device with a number.

    Raises:
        BackendError: if the library cannot be loaded, or has no such device.
    """
    try:
        _register(plugin.get_ep_name(), plugin.get_library_path())
    except Exception as error:  # the exceptions of ONNX Runtime and of plug-ins share no base class
        raise BackendError(
            f"the plug-in library of {provider.name} cannot be loaded ({error})",
            "install the driver of its device, and the newest version of both packages: "
            f"pip install --upgrade onnxruntime '{provider.install}'",
        ) from None
    onnxruntime = import_onnxruntime()
    devices = [one for one in onnxruntime.get_ep_devices() if one.ep_name == provider.name]
    if provider.is_on_gpu:  # the plug-in lists only those GPUs that it supports, but numbers them as CUDA does
        memory = onnxruntime.OrtDeviceMemoryType.DEFAULT
        numbered = {one.memory_info(memory).device_id: one for one in devices}
    else:
        numbered = dict(enumerate(devices))
    if number in numbered:
        return numbered[number]
    found = ", ".join(f"{k}: {one.device.vendor} {one.device.type.name}" for k, one in numbered.items()) or "none"
    raise BackendError(
        f"{provider.name} has no device {number} on this machine; its devices are {found}",
        "give the number of one of them, as in `backend` ort:openvino:0"
        if devices
        else "it requires a device that it supports, and the driver of that device",
    )


@cache
def _register(name: str, library: str) -> None:
    """Register a plug-in library. ONNX Runtime refuses a second registration in the same process."""
    import_onnxruntime().register_execution_provider_library(name, library)


@cache
def _share_arena() -> None:
    """Create one memory arena for all graphs of the process that run on the CPU.

    The graphs run one after the other. A common arena takes less than half the memory of separate arenas.
    """
    onnxruntime = import_onnxruntime()
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, None)


@cache
def _load_cuda() -> None:
    """Load the libraries of CUDA and cuDNN.

    pip installs them in folders that the system does not search. ONNX Runtime finds them if they are loaded already.
    """
    with redirect_stdout(StringIO()):  # it prints what is missing, which an error of the provider says as well
        import_onnxruntime().preload_dlls()


def _processor() -> str:
    """Return the name of the processor, or nothing if the system does not tell it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
