"""What all engines of a bundle share: their TensorRT, a lock, the memory that they compute in, and compiled kernels."""

from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Any

from caflow_runtime.backends.backend import failure
from caflow_runtime.backends.cuda_device import CudaDevice
from caflow_runtime.backends.tensorrt_kernels import Kernels
from caflow_runtime.backends.tensorrt_library import logger, module, recorder
from caflow_runtime.bundle.engine_sets import EXTRAS, NAMES, EngineSet
from caflow_runtime.errors import BackendError


class TensorRTRuntime:
    """TensorRT on a device, for the engines of one set."""

    def __init__(self, device: CudaDevice, set_folder: Path, built: EngineSet) -> None:
        """
        Raises:
            BackendError: if its TensorRT is not installed.
        """
        flavor = built.flavor
        try:
            self.trt = module(flavor)
        except ImportError as error:
            raise BackendError(
                f"{NAMES[flavor]} does not load ({error})", f"pip install 'caflow-deploy[{EXTRAS[flavor]}]'"
            ) from None
        self.device = device
        self.name = f"{NAMES[flavor].lower()} {built.precision} on {device.name}"
        self.errors = recorder(flavor)
        self.lock = RLock()
        """Held while the stream is given work, as contexts and the activation memory are everybody's."""
        self.contexts: dict[Any, Any] | None = None
        """Those of the chain that is being recorded: it alone has them, as what is repeated must not be changed."""
        self.kernels = Kernels(self.trt, set_folder) if flavor == "rtx" else None
        self.shared: Any = None
        """The activation memory."""
        self._runtime = self.trt.Runtime(logger(flavor))

    def load(self, contents: bytes, path: Path) -> Any:
        """The engine of a plan; `path` is for messages.

        Raises:
            BackendError, MemoryError
        """
        self.device.use()
        return self.made_by(self._runtime, lambda: self._runtime.deserialize_cuda_engine(contents), path)

    def made_by(self, maker: Any, make: Callable[[], Any], path: Path) -> Any:
        """What one of TensorRT's objects makes, if need be with all memory that is not in use given back.

        Raises:
            BackendError: with what it says, if it makes nothing.
            MemoryError: if that is for want of memory.
        """
        made = make()
        if not made:
            self.device.give_back()
            made = make()
        if not made:  # once more, to hear why
            self.errors.clear()
            maker.error_recorder = self.errors
            try:
                made = make()
            finally:
                maker.error_recorder = None
            if hasattr(made, "error_recorder"):
                made.error_recorder = None
        if not made:
            raise failure(path, f"{self.name} cannot run it: {self.errors.text()}")
        return made

    def activation(self, size: int) -> Any:
        """The memory that all engines share, of at least so many bytes; with the lock held.

        Raises:
            MemoryError
        """
        if self.shared is None or self.shared.size < size:
            self.shared = None  # a recording that uses it keeps it; else its memory is free for the new one
            self.shared = self.device.allocate(size)
        return self.shared
