"""Methods that are common to the backends whose device arrays are NumPy arrays in host memory."""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.backends.backend import Backend
from caflow_runtime.errors import InputError
from caflow_runtime.flow.level_chain import Array


class HostArrays(Backend):
    """Backend whose device is the host. Its device arrays are NumPy arrays."""

    def to_device(self, array: NDArray[Any]) -> Array:
        return array

    def to_host(self, array: Array) -> NDArray[Any]:
        return array

    def take(self, array: Array, items: NDArray[np.int64]) -> Array:
        return np.asarray(array[items])

    def adopt(self, array: object) -> Array:
        try:
            adopted = array if isinstance(array, np.ndarray) else np.from_dlpack(cast(Any, array))
        except (AttributeError, BufferError, RuntimeError, TypeError) as error:
            raise InputError(f"expected an array in host memory; got {type(array).__name__}: {error}") from None
        if not adopted.flags.c_contiguous:
            raise InputError("expected a contiguous array (C order); got other strides: make a contiguous copy")
        return cast(Array, adopted)
