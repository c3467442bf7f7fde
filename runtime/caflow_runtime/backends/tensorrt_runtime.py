"""State that all engines of a bundle share: TensorRT, a lock, activation memory, and compiled kernels."""

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
    """TensorRT on a device, for the engines of one engine set."""

    def __init__(self, device: CudaDevice, set_folder: Path, built: EngineSet) -> None:
        """Open the TensorRT version with which the engines were built.

        Raises:
            BackendError: if the TensorRT of this engine set is not installed.
        """
        flavor = built.flavor
        try:
            self.trt = module(flavor)
        except ImportError as error:
            raise BackendError(
                f"{NAMES[flavor]} cannot be loaded ({error})", f"pip install 'caflow-deploy[{EXTRAS[flavor]}]'"
            ) from None
        self.device = device
        self.name = f"{NAMES[flavor].lower()} {built.precision} on {device.name}"
        self.errors = recorder(flavor)
        self.lock = RLock()
        """Held while a thread queues work, because all threads share the contexts and the activation memory."""
        self.contexts: dict[Any, Any] | None = None
        """Execution contexts of the chain that is being recorded, else None. They belong to the recording alone,
        because a context must not change after its work was recorded."""
        self.kernels = Kernels(self.trt, set_folder) if flavor == "rtx" else None
        """Cache of compiled kernels. Only TensorRT-RTX has one."""
        self.shared: Any = None
        """Activation memory: the memory for intermediate results. None before the first run."""
        self._runtime = self.trt.Runtime(logger(flavor))

    def load(self, contents: bytes, path: Path) -> Any:
        """Return the engine of a plan. `path` is only used in messages.

        Raises:
            BackendError: if TensorRT rejects the plan.
            MemoryError: if memory runs out.
        """
        self.device.use()
        return self.made_by(self._runtime, lambda: self._runtime.deserialize_cuda_engine(contents), path)

    def made_by(self, maker: Any, make: Callable[[], Any], path: Path) -> Any:
        """Call `make`, which creates an object of TensorRT, and return that object.

        If it fails, all unused memory is returned to the driver and `make` is called again.

        Arguments:
            maker: the object of TensorRT that `make` calls. It records the errors of the last attempt.
            path: file to name in messages.

        Raises:
            BackendError: if `make` creates nothing; with TensorRT's errors.
            MemoryError: if the reason is that memory ran out.
        """
        made = make()
        if not made:
            self.device.give_back()
            made = make()
        if not made:  # try once more, to record the reason
            self.errors.clear()
            maker.error_recorder = self.errors
            try:
                made = make()
            finally:
                maker.error_recorder = None
            if hasattr(made, "error_recorder"):
                made.error_recorder = None
        if not made:
            raise failure(path, f"{self.name} cannot run this engine: {self.errors.text()}")
        return made

    def activation(self, size: int) -> Any:
        """Return the activation memory, which has at least `size` bytes. The caller must hold the lock.

        Raises:
            MemoryError: if memory runs out.
        """
        if self.shared is None or self.shared.size < size:
            self.shared = None  # free the old memory first; recordings that use it keep it
            self.shared = self.device.allocate(size)
        return self.shared
