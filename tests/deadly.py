"""Work that ends the process that does it."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from caflow_deploy.cluster.fleet import Place
from caflow_runtime.pipeline.pipeline import Pipeline


def square(_: Pipeline, unit: int) -> int:
    """But of 5."""
    if unit == 5:
        os._exit(1)
    return unit * unit


def fail(_: Pipeline, unit: int) -> int:
    raise ZeroDivisionError(unit)


@dataclass(frozen=True)
class DeadlyPlace(Place):
    """Ends the process that it is sent to."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return os._exit, (1,)
