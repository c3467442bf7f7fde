"""Python modules of TensorRT and TensorRT-RTX, with their loggers and error recorders."""

import importlib
from functools import cache
from typing import Any

from caflow_runtime.bundle.engine_sets import Flavor

MODULES: dict[Flavor, str] = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
"""Name of the Python module of each flavor."""


def module(flavor: Flavor) -> Any:
    """Import the Python module of a flavor and return it.

    Raises:
        ImportError: if the module is not installed, or cannot be loaded.
    """
    return importlib.import_module(MODULES[flavor])


def strongly_typed(trt: Any) -> int:
    """Return the flags of a network whose types are those of its graph. TensorRT 11 and later need no flag for this."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def build(flavor: Flavor, builder: Any, network: Any, config: Any) -> Any:
    """Build a network. Return its plan, a buffer of bytes, or None if TensorRT fails.

    After a failure, `recorder` has the reason.
    """
    recorder(flavor).clear()
    builder.error_recorder = recorder(flavor)
    return builder.build_serialized_network(network, config)


@cache
def logger(flavor: Flavor) -> Any:
    """Return the logger of a flavor, one per process.

    This is TensorRT's own logger. A logger in Python would take Python's global lock for every message of every thread.
    """
    trt = module(flavor)
    return trt.Logger(trt.Logger.INTERNAL_ERROR)


@cache
def recorder(flavor: Flavor) -> Any:
    """Return the error recorder of a flavor, one per process. It keeps the errors of the objects that it is set on.

    TensorRT objects inherit the error recorder of their creator and crash when they are freed. Never leave it set on an
    object that creates others.
    """
    trt = module(flavor)

    class Recorder(trt.IErrorRecorder):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[tuple[Any, str]] = []

        def report_error(self, code: Any, text: str) -> bool:
            self.errors.append((code, text))
            return False

        def num_errors(self) -> int:
            return len(self.errors)

        def get_error_code(self, number: int) -> Any:
            return self.errors[number][0]

        def get_error_desc(self, number: int) -> str:
            return self.errors[number][1]

        def has_overflowed(self) -> bool:
            return False

        def clear(self) -> None:
            self.errors.clear()

        def text(self) -> str:
            """Return all errors as one text."""
            return "; ".join(text for _, text in self.errors) or "TensorRT gave no reason"

    return Recorder()
