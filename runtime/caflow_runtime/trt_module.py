"""TensorRT's Python module of each flavor, and its log."""

import importlib
from functools import cache
from typing import Any

from caflow_runtime.engines import Flavor

MODULES: dict[Flavor, str] = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}


def module(flavor: Flavor) -> Any:
    """The flavor's Python module.

    Raises:
        ImportError
    """
    return importlib.import_module(MODULES[flavor])


def strongly_typed(trt: Any) -> int:
    """The flags of a network whose types are those of its graph: from version 11 on the only kind, its flag gone."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


@cache
def log(flavor: Flavor) -> Any:
    """TensorRT's logger: one per process, the first wins. Keeps errors for messages of ours, drops the rest."""
    trt = module(flavor)

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

        def first_error(self) -> str:
            return self.errors[0] if self.errors else "it does not say why"

    return Log()
