"""Signals that stop a program, deferred while a block runs that an exception must not leave half done."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import current_thread, main_thread

STOPPING = (signal.SIGINT, signal.SIGTERM)
"""Signals that stop a program: Ctrl-C, and what services are stopped by."""


@contextmanager
def deferring_stops() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the end of the block, because its code would lose their exceptions.

    Outside the main thread this does nothing, because Python handles signals in the main thread only.
    """
    if current_thread() is not main_thread():
        yield
        return
    held: list[int] = []
    with ExitStack() as stack:  # runs all its callbacks, the last one first, even if a stop interrupts one of them
        stack.callback(lambda: signal.raise_signal(held[0]) if held else None)
        for number in STOPPING:
            stack.callback(signal.signal, number, signal.getsignal(number))
            signal.signal(number, lambda *_, n=number: held.append(n))
        yield
