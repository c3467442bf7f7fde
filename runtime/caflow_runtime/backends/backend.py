"""What every backend offers: graphs as callables on arrays of its device, and the way of arrays there and back."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.bundle.engine_sets import Profile
from caflow_runtime.bundle.manifest import PrecisionName
from caflow_runtime.errors import BackendError, CaflowError
from caflow_runtime.flow.noise import LevelNoise, draw_rows
from caflow_runtime.flow.scan import Array, Arrays, Graph

OUT_OF_MEMORY = (
    *("allocate memory", "alloc_failed", "bad allocation", "bad_alloc", "out of memory", "out_of_memory"),
    *("outofmemory", "could not be allocated", "defaultallocator"),
)


class Backend(Protocol):
    """Where graphs run. Any thread may use it."""

    name: str
    """Such as "onnxruntime cpu"."""
    profiles: Sequence[Profile] = ()
    """Sizes that its graphs take, each up to some rows, height and width; where there are none, any."""
    is_proven: bool = True
    """Whether it is known to compute right; else a bundle is compared with the CPU when it is opened."""
    lacks: frozenset[PrecisionName] = frozenset()
    """Precisions of networks that it does not run."""
    finds_not_finite: bool = False
    """Whether `are_finite` works on the device, so that pixels can stay there."""

    def load(self, path: Path) -> Graph:
        """The graph of an ONNX file, as a callable from named device arrays to named device arrays."""

    def build(self, path: Path) -> Graph:
        """The same of an ONNX file that is not of the bundle, with fixed shapes."""
        return self.load(path)

    def to_device(self, array: NDArray[Any]) -> Array:
        """A contiguous array of the host, on the device."""

    def to_host(self, array: Array) -> NDArray[Any]:
        """An array of the device as numpy's."""

    def row_to_host(self, array: Array, row: int) -> NDArray[Any]:
        """One row, for which the device needs no memory."""
        return np.asarray(self.to_host(array)[row])

    def describe(self, array: Array) -> tuple[str, tuple[int, ...]]:
        """The type of a device array, as manifests name it, and its shape."""
        name = array.dtype.name
        return "bfloat16" if name == "uint16" else name, array.shape  # NumPy has no bfloat16

    def take(self, array: Array, rows: NDArray[np.int64]) -> Array:
        """The rows of a device array."""

    def adopt(self, array: object) -> Array:
        """An array of another library that lies on the device, by DLPack or its interface, without a copy.

        Raises:
            InputError: if it lies elsewhere, or is not contiguous.
        """

    def draw_noise(self, z: LevelNoise) -> Array:
        """`noise.draw_rows`, on the device."""
        return self.to_device(draw_rows(z))

    def are_finite(self, array: Array) -> NDArray[np.bool_]:
        """Which rows of a device array of floats have no value that is not finite."""
        host = self.to_host(array)
        return np.asarray(np.isfinite(host).reshape(len(host), -1).all(1))

    def replay(self, name: str, run: Graph, given: Arrays) -> dict[str, Array]:
        """What `run` gives, a chain of graphs; a backend may record it by name and shapes, and repeat that.

        Arguments:
            run: does nothing but call graphs, which ones depending on the shapes of what is given alone.
        """
        return run(given)

    def spare_memory(self) -> bool:
        """After memory ran out: keep none for later runs from now on. Runs may then take longer.

        Returns:
            True if the next run frees, at its end, what the backend has kept until now.
        """
        return False

    def close(self) -> None:
        """Let go of what need not be kept."""
        return None


@contextmanager
def explaining(place: Path | str) -> Iterator[None]:
    """What goes wrong in a graph, as a BackendError that names it: exceptions of backends share no base class."""
    try:
        yield
    except KeyError as error:
        raise BackendError(
            f"{place}: wants an input {error} that the chain does not give: export the model again"
        ) from None
    except (MemoryError, CaflowError):
        raise
    except Exception as error:
        raise failure(place, str(error).strip()) from error


def failure(place: Path | str, text: str) -> MemoryError | BackendError:
    """What to raise for an error of a backend that has this text."""
    if any(sign in text.lower() for sign in OUT_OF_MEMORY):
        return MemoryError(f"{place}: {text}: give a smaller pixel_budget")
    return BackendError(f"{place}: {text}")
