"""Recordings of streams: graphs, and what can be launched of them."""

from itertools import count

from fake_gpu.calls import CALLS, misuse
from fake_gpu.queues import Queue, Work

Recorded = dict[int, list[Work]]


class Recordings:
    """Graphs and executable graphs, until they are destroyed."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._handles = count(0x9000, 0x10)
        self.graphs: Recorded = {}
        self.executables: Recorded = {}

    def begin(self, queue: Queue) -> None:
        if queue.captured is not None:
            misuse("a stream is captured that is captured already")
        queue.captured = []
        CALLS.captures += 1

    def end(self, queue: Queue) -> int:
        """The graph of what was recorded."""
        if queue.captured is None:
            misuse("the capture of a stream is ended that is not captured")
        handle = next(self._handles)
        self.graphs[handle], queue.captured = queue.captured, None
        CALLS.captures -= 1
        return handle

    def instantiate(self, graph: int) -> int:
        handle = next(self._handles)
        self.executables[handle] = self._find(self.graphs, graph)
        return handle

    def launch(self, executable: int, queue: Queue) -> None:
        """Queue all of it, with the addresses that were recorded."""
        for work in self._find(self.executables, executable):
            queue.push(work)

    def destroy(self, handle: int, kind: Recorded) -> None:
        self._find(kind, handle)
        del kind[handle]

    @staticmethod
    def _find(kind: Recorded, handle: int) -> list[Work]:
        if handle not in kind:
            misuse(f"there is no graph {handle:#x}, or no more")
        return kind[handle]


RECORDINGS = Recordings()
