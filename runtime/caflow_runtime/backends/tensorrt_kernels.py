"""The kernels that TensorRT-RTX compiles while engines run."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from caflow_runtime.backends.cache_file import read_cache, write_cache


class Kernels:
    """What TensorRT-RTX compiles for the GPU here while engines run, kept beside them for the next time."""

    def __init__(self, trt: Any, folder: Path) -> None:
        self.trt = trt
        self.path = folder / "kernels.cache"
        self._cache: Any = None
        self._stored = b""

    def configure(self, config: Any, shapes_return: bool) -> None:
        """Have the kernels of a context taken from and put into the cache, the ones for its shapes at once or later."""
        strategies = self.trt.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER if shapes_return else strategies.LAZY
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            self._stored = read_cache(self.path)
            if self._stored:  # what another driver compiled is not taken
                self._cache.deserialize(self._stored)
        config.set_runtime_cache(self._cache)

    def write(self) -> None:
        """Store what is new."""
        compiled = b"" if self._cache is None else bytes(self._cache.serialize() or b"")
        if compiled and compiled != self._stored:
            with suppress(OSError):  # a bundle that cannot be written to still runs
                write_cache(self.path, compiled)
                self._stored = compiled
