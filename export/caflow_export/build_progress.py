"""Progress reports of TensorRT's builder, and cancellation of a build by Ctrl-C."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, current_thread, main_thread
from typing import Any


@contextmanager
def cancelling_on_ctrl_c() -> Iterator[Event]:
    """Yield an event. Until the end of the block Ctrl-C sets the event and raises no KeyboardInterrupt.

    TensorRT calls Python code during a build, and an exception that passes through TensorRT ends the process.
    Outside the main thread Python handles no signals, and the event is never set.
    """
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
    """Return the object to which TensorRT reports the progress of a build.

    A build consists of nested phases, and each phase of a number of steps.

    Arguments:
        trt: the flavor's Python module.
        cancelled: stops the build after the current step when it is set.
        show: called after each step with a text such as "PHASE 3/10".
    """

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
