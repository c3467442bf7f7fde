"""Streams of the fake GPU as queues: work waits in them until somebody waits for it, the latest that a GPU may do it.

So a synchronisation that is missing shows: what was to be copied or computed is not there yet.
"""

from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Literal

from fake_gpu.calls import CALLS, LOCK, misuse

Work = Callable[[], None]
Schedule = Literal["late", "early"]
LEGACY = 1


class Queue:
    """Work in order. While it is captured, work is recorded and never done."""

    schedule: Schedule = "late"
    """early: work is done as soon as it is queued, the earliest that a GPU may do it."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.queued = self.done = 0
        """How much work, ever."""
        self._waiting: deque[tuple[Work, bool]] = deque()
        self.captured: list[Work] | None = None
        self.is_open = True
        """Whether the stream exists; what it was given is done in any case."""

    def push(self, work: Work, frees: bool = False) -> None:
        """Queue work. `frees`: it frees memory, which happens on a GPU that is lost, too."""
        with LOCK:
            if self.captured is not None:
                self.captured.append(work)
                return
            self._waiting.append((work, frees))
            self.queued += 1
            if self.schedule == "early":
                self.run(self.queued)

    def run(self, until: int) -> None:
        """Do the first `until` pieces of work, as far as they are not done."""
        with LOCK:
            while self.done < until:
                self.done += 1
                work, frees = self._waiting.popleft()
                if frees or not CALLS.is_lost:
                    work()

    def sync(self) -> None:
        """Do all of it."""
        if self.captured is not None:
            misuse("a stream is synchronised while it is captured")
        self.run(self.queued)

    def wait(self, other: "Queue") -> None:
        """What is queued from here on comes after what `other` has now."""
        if self.captured is not None or other.captured is not None:
            misuse("a stream that is captured waits for one that is not")
        until = other.queued
        self.push(lambda: other.run(until))


class Queues:
    """All of them, by handle."""

    def __init__(self) -> None:
        self._handles = count(0x5000, 0x10)
        self.reset()

    def reset(self) -> None:
        self._all = {LEGACY: Queue(LEGACY)}

    @property
    def open(self) -> int:
        """How many streams there are."""
        return sum(queue.is_open for queue in self._all.values()) - 1

    def create(self) -> Queue:
        made = Queue(next(self._handles))
        self._all[made.handle] = made
        return made

    def find(self, handle: int) -> Queue:
        """The queue of a handle that code holds."""
        found = self._all.get(handle)
        if found is None or not found.is_open:
            misuse(f"there is no stream {handle:#x}, or no more")
        return found

    def finish(self) -> None:
        """Do all work that nobody waits for."""
        for queue in self._all.values():
            queue.sync()


QUEUES = Queues()
