"""TensorRT's Python module of each flavor, and how it tells what goes wrong."""

import importlib
from functools import cache
from typing import Any

from caflow_runtime.bundle.engine_sets import Flavor

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


def build(flavor: Flavor, builder: Any, network: Any, config: Any) -> Any:
    """A network's plan, a buffer of bytes; None if TensorRT refuses it, and then `recorder` knows why."""
    recorder(flavor).clear()
    builder.error_recorder = recorder(flavor)
    return builder.build_serialized_network(network, config)


@cache
def logger(flavor: Flavor) -> Any:
    """TensorRT's own, one per process: one in Python would take Python's lock for every message, of any thread."""
    trt = module(flavor)
    return trt.Logger(trt.Logger.INTERNAL_ERROR)


@cache
def recorder(flavor: Flavor) -> Any:
    """Keeps errors for messages of ours, of objects whose `error_recorder` it is.

    Objects that are made by one that has it have it too, and end the process when they are freed: so it is set on none
    that goes on to make others.
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
            """All of them."""
            return "; ".join(text for _, text in self.errors) or "it does not say why"

    return Recorder()
