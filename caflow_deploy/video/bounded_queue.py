"""Bounded queue between two threads. The writer can end it, and its errors are raised in the reading thread."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

T = TypeVar("T")
POLL_S = 0.1
WAITING_FRAMES = 8
"""Number of frames that wait in a queue at most."""
READER_ENDS_S = 20.0
"""Seconds to wait for the end of the reading thread; opening or reading a lost source takes less."""


class ReaderGone(Exception):
    """The reader has stopped reading: the writer should stop, too."""


class BoundedQueue(Generic[T]):
    """Queue of items from one thread to another, in order."""

    def __init__(self, size: int, drops: bool = False) -> None:
        """Create an empty queue.

        Arguments:
            size: largest number of items that wait in the queue.
            drops: if the queue is full, drop the oldest item; otherwise `put` waits.
        """
        self.dropped = 0
        self._items: Queue[T] = Queue(size)
        self._drops = drops
        self._ended = Event()
        self._left = Event()
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Add an item. If the queue is full, wait, or drop the oldest item.

        Raises:
            ReaderGone: if the reader has stopped reading.
        """
        while True:
            if self._left.is_set():
                raise ReaderGone
            try:
                return self._items.put(item, timeout=0 if self._drops else POLL_S)
            except Full:
                if self._drops:
                    self._drop()

    def end(self, error: BaseException | None = None) -> None:
        """Mark the end of the items. An error is raised in the reader after the last item."""
        self._error = error
        self._ended.set()

    def leave(self) -> None:
        """Stop reading; `put` then raises `ReaderGone`."""
        self._left.set()

    def fill(self, items: Callable[[], Iterable[T]]) -> Thread:
        """Start a thread that puts all items of `items()` into the queue, and ends it. Return the thread."""

        def run() -> None:
            try:
                for item in items():
                    self.put(item)
            except ReaderGone:
                pass
            except BaseException as error:
                self.end(error)
                return
            self.end()

        thread = Thread(target=run, daemon=True)
        thread.start()
        return thread

    def __iter__(self) -> Iterator[T]:
        while True:
            try:
                yield self._items.get(timeout=POLL_S)
            except Empty:
                if self._ended.is_set() and self._items.empty():
                    if self._error is not None:
                        raise self._error from None
                    return

    def _drop(self) -> None:
        try:
            self._items.get_nowait()
        except Empty:  # the reader took it in the meantime
            return
        self.dropped += 1


@contextmanager
def read_ahead(
    items: Callable[[], Iterable[T]], drops: bool = False, close: Callable[[], None] | None = None
) -> Iterator[BoundedQueue[T]]:
    """Yield a queue that a thread fills with `items()`. The thread ends with the block.

    Arguments:
        drops: whether only the newest item waits, in place of `WAITING_FRAMES`; older ones are dropped.
        close: called before the thread is waited for, to make `items` end soon.
    """
    lane: BoundedQueue[T] = BoundedQueue(1, drops=True) if drops else BoundedQueue(WAITING_FRAMES)
    reader = lane.fill(items)
    try:
        yield lane
    finally:
        if close is not None:
            close()
        lane.leave()
        reader.join(READER_ENDS_S)  # a thread that is inside OpenCV at exit crashes the process
