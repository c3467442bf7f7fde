"""Cache of the kernels that TensorRT-RTX compiles while engines run."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from caflow_runtime.backends.cache_file import read_cache, write_cache


class Kernels:
    """Kernels that TensorRT-RTX compiles for this machine's GPU, stored beside the engines for later processes."""

    def __init__(self, trt: Any, folder: Path) -> None:
        self.trt = trt
        self.path = folder / "kernels.cache"
        self._cache: Any = None
        self._stored = b""

    def configure(self, config: Any, shapes_return: bool) -> None:
        """Make a context use the cache for its kernels.

        Arguments:
            config: configuration of the context, which is changed.
            shapes_return: whether the same shapes will run often. If so, kernels for exactly these shapes are compiled
                before the first run. If not, general kernels run until then.
        """
        strategies = self.trt.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER if shapes_return else strategies.LAZY
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            self._stored = read_cache(self.path)
            if self._stored:  # kernels that another driver compiled are ignored
                self._cache.deserialize(self._stored)
        config.set_runtime_cache(self._cache)

    def write(self) -> None:
        """Write the kernels to the cache file if there are new ones."""
        compiled = b"" if self._cache is None else bytes(self._cache.serialize() or b"")
        if compiled and compiled != self._stored:
            with suppress(OSError):  # a read-only bundle still runs
                write_cache(self.path, compiled)
                self._stored = compiled
