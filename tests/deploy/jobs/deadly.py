"""Work that fails, or that ends the process that runs it, for tests of workers."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from caflow_deploy.jobs.executor import WorkerConfig
from caflow_runtime.pipeline.pipeline import Pipeline


def square(_: Pipeline, unit: int) -> int:
    """Return the square of a unit, but end the process for unit 5."""
    if unit == 5:
        os._exit(1)
    return unit * unit


def fail(_: Pipeline, unit: int) -> int:
    raise ZeroDivisionError(unit)


@dataclass(frozen=True)
class DeadlyConfig(WorkerConfig):
    """Configuration that ends every process that receives it."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return os._exit, (1,)
