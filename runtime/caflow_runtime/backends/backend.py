"""Interface of all backends. A backend runs graphs on its device, and copies arrays to and from the device."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.bundle.engine_sets import Profile
from caflow_runtime.bundle.manifest import PrecisionName
from caflow_runtime.errors import BackendError, CaflowError
from caflow_runtime.flow.level_chain import Array, Graph
from caflow_runtime.flow.noise import LevelNoise, draw_items
from caflow_runtime.flow.ports import GraphPorts

OUT_OF_MEMORY = (
    *("allocate memory", "alloc_failed", "bad allocation", "bad_alloc", "out of memory", "out_of_memory"),
    *("outofmemory", "could not be allocated", "defaultallocator"),
)
"""Parts of the libraries' error messages, in lower case, which mean that memory ran out."""


class Backend(Protocol):
    """Interface of a backend: loads graphs and runs them on its device. Any thread may use a backend.

    An array on the device is called a device array. Its type depends on the backend.
    """

    name: str
    """Name for people, such as "onnxruntime cpu"."""
    profile: Profile | None = None
    """Size limits of the graphs: largest number of items, height and width. None if there are no limits."""
    is_reference: bool = False
    """Whether the results of other backends are compared with those of this backend."""
    lacks: frozenset[PrecisionName] = frozenset()
    """Precisions of a bundle's networks that this backend cannot run."""
    builds_engines: bool = False
    """Whether graphs are compiled for the device when they are first needed, which takes minutes."""
    is_cpu: bool = False
    """Whether graphs run on the CPU, for arrays of any size."""
    finds_not_finite: bool = False
    """Whether `are_finite` runs on the device. The pixels of samples stay on the device only if it does."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What the results depend on besides the bundle, such as versions and the name of the device."""

    def load(self, path: Path, ports: GraphPorts | None = None) -> Graph:
        """Load a graph of the bundle from its ONNX file, or another ONNX file with fixed shapes.

        Return a callable that takes named device arrays and returns named device arrays.

        Arguments:
            ports: checks the arrays of each run; None runs without checks.
        """

    def to_device(self, array: NDArray[Any]) -> Array:
        """Return a contiguous host array as a device array."""

    def to_host(self, array: Array) -> NDArray[Any]:
        """Return a device array as a NumPy array."""

    def item_to_host(self, array: Array, item: int) -> NDArray[Any]:
        """Return one item of a device array as a NumPy array. This allocates no memory on the device."""
        return np.asarray(self.to_host(array)[item])

    def describe(self, array: Array) -> tuple[str, tuple[int, ...]]:
        """Return the element type of a device array, as manifests name it, and the shape."""
        name = array.dtype.name
        return "bfloat16" if name == "uint16" else name, array.shape  # NumPy has no bfloat16

    def take(self, array: Array, items: NDArray[np.int64]) -> Array:
        """Return a device array with the selected items of `array`. `items` contains their indices."""

    def adopt(self, array: object) -> Array:
        """Return an array of another library as a device array, normally without a copy.

        The array must already be on the device and support DLPack. With CuPy, `__cuda_array_interface__` is enough.

        Raises:
            InputError: if the array is on another device, or not contiguous.
        """

    def lend(self, array: Array) -> Any:
        """Return a device array as an object with DLPack for other libraries; with CuPy as an array of CuPy."""
        return array

    def draw_noise(self, z: LevelNoise) -> Array:
        """Draw the noise of one level on the device, as `noise.draw_items` defines it."""
        return self.to_device(draw_items(z))

    def are_finite(self, array: Array) -> NDArray[np.bool_]:
        """Return (items,) bool: whether all values of an item are finite. `array` is a device array of floats."""
        host = self.to_host(array)
        return np.asarray(np.isfinite(host).reshape(len(host), -1).all(1))

    def spare_memory(self) -> bool:
        """Stop keeping memory for later runs. Call this after memory ran out. Later runs may take longer.

        Returns:
            True if the next run frees, at its end, the memory that the backend has kept until now.
        """
        return False

    def used_memory(self) -> int | None:
        """Return how much memory of the device all processes use, in bytes; None if it is not known."""
        return None


@contextmanager
def explaining(place: Path | str) -> Iterator[None]:
    """Convert exceptions of the libraries in the block, as `explained` does. Only `CaflowError` passes unchanged."""
    try:
        yield
    except CaflowError:
        raise
    except Exception as error:
        raise explained(place, error) from error


def explained(place: Path | str, error: Exception) -> MemoryError | BackendError:
    """Return the exception for one of the libraries: `MemoryError` if memory ran out, else `BackendError`.

    The message begins with `place`. Any exception may come from a library, because their exceptions share no base
    class.
    """
    if isinstance(error, KeyError):
        return BackendError(
            f"{place}: the graph requires an input {error}, which the runtime does not provide: export the model again"
        )
    return MemoryError(*error.args) if isinstance(error, MemoryError) else failure(place, str(error).strip())


def failure(place: Path | str, text: str) -> MemoryError | BackendError:
    """Return the exception for an error message of a backend: `MemoryError` if memory ran out, else `BackendError`."""
    if any(sign in text.lower() for sign in OUT_OF_MEMORY):
        return MemoryError(f"{place}: {text}: use a smaller pixel_budget")
    return BackendError(f"{place}: {text}")
