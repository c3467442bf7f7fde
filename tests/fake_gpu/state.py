"""All that the fake GPU holds, and what must be left of it in the end: nothing."""

import gc
from typing import Any
from weakref import WeakSet

from caflow_runtime.backends import cuda_kernels
from caflow_runtime.backends import tensorrt_library as trt_module
from fake_gpu.calls import CALLS
from fake_gpu.graphs import RECORDINGS
from fake_gpu.memory import CAPACITY, MEMORY
from fake_gpu.queues import QUEUES, Queue, Schedule

REMEMBERED = (trt_module.logger, trt_module.recorder, cuda_kernels._kernel)
"""What the code under test keeps of the libraries as long as the process runs."""
OBJECTS: WeakSet[Any] = WeakSet()
"""Of TensorRT."""


def reset(capacity: int = CAPACITY, schedule: Schedule = "late") -> None:
    """A new GPU, and code that has not seen one."""
    for remembered in REMEMBERED:
        remembered.cache_clear()
    CALLS.reset()
    CALLS.misuses.clear()
    MEMORY.reset(capacity)
    QUEUES.reset()
    RECORDINGS.reset()
    OBJECTS.clear()
    Queue.schedule = schedule


def left() -> dict[str, Any]:
    """What was misused, and what has not been freed, when everything that was queued is done."""
    gc.collect()
    QUEUES.finish()
    counted = {
        "misuses": list(CALLS.misuses),
        "bytes of buffers": MEMORY.in_use,
        "bytes of TensorRT": MEMORY.engines,
        "pinned buffers": MEMORY.pinned,
        "streams": QUEUES.open,
        "graphs": len(RECORDINGS.graphs),
        "executable graphs": len(RECORDINGS.executables),
        "objects of TensorRT": [type(one).__name__ for one in OBJECTS],
    }
    return {what: found for what, found in counted.items() if found}
