"""Progress of TensorRT's builder, and how Ctrl-C ends it."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, current_thread, main_thread
from typing import Any


@contextmanager
def cancelling_on_ctrl_c() -> Iterator[Event]:
    """An event that Ctrl-C sets: an exception must not pass through TensorRT, which would end the process."""
    cancelled = Event()
    if current_thread() is not main_thread():
        yield cancelled
        return
    before = signal.signal(signal.SIGINT, lambda *_: cancelled.set())
    try:
        yield cancelled
    finally:
        signal.signal(signal.SIGINT, before)


def progress_monitor(trt: Any, cancelled: Event, show: Callable[[str], None]) -> Any:
    """What TensorRT reports to: phases within phases, each of some steps. Ends the build at the step after Ctrl-C."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.steps[phase] = steps

        def phase_finish(self, phase: str) -> None:
            self.steps.pop(phase, None)

        def step_complete(self, phase: str, step: int) -> bool:
            show(f"{phase} {step + 1}/{self.steps.get(phase, step + 1)}")
            return not cancelled.is_set()

    return Monitor()
