"""A bounded queue between two threads that ends, and carries what went wrong to whoever reads it."""

from collections.abc import Callable, Iterable, Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

T = TypeVar("T")
POLL_S = 0.1


class ReaderGone(Exception):
    """Nobody reads what is put: stop making it."""


class Lane(Generic[T]):
    """Items from one thread to another, in order."""

    def __init__(self, size: int, drops: bool = False) -> None:
        """`drops`: where it is full, the oldest item gives way; else it is waited for."""
        self.dropped = 0
        self._items: Queue[T] = Queue(size)
        self._drops = drops
        self._ended = Event()
        self._left = Event()
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Waits while it is full, or drops what has waited longest.

        Raises:
            ReaderGone
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
        """There will be no more; with an error, the reader gets it after the items."""
        self._error = error
        self._ended.set()

    def leave(self) -> None:
        """The reader wants no more."""
        self._left.set()

    def fill(self, items: Callable[[], Iterable[T]]) -> Thread:
        """Put what `items` gives in a thread of its own, which is started, and end."""

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
        except Empty:  # it was taken after all
            return
        self.dropped += 1
