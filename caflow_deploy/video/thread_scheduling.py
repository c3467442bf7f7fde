"""Scheduling of threads, which some encoders change."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TASKS = Path("/proc/self/task")
"""Folder with one subfolder for each thread of this process, on Linux."""


@contextmanager
def scheduled_as_before() -> Iterator[None]:
    """Reset the scheduling of threads that the block starts or changes to that of the calling thread before the block.

    When it runs as root, SVT-AV1 gives its own threads and the thread that opens it real-time scheduling with the
    highest priority. Nothing else would run on their cores, even after the encoder is closed.
    """
    if not TASKS.is_dir():
        yield
        return
    policy, parameter, before = os.sched_getscheduler(0), os.sched_getparam(0), _policies()
    try:
        yield
    finally:
        for thread in (thread for thread, now in _policies().items() if now != before.get(thread, policy)):
            with suppress(OSError):  # the thread has ended
                os.sched_setscheduler(thread, policy, parameter)


def _policies() -> dict[int, int]:
    """Return the scheduling policy of each thread of this process, by thread id."""
    found = {}
    for path in TASKS.iterdir():
        with suppress(OSError):
            found[int(path.name)] = os.sched_getscheduler(int(path.name))
    return found
