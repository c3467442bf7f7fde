"""A bounded queue between two threads that ends, and carries what went wrong to whoever reads it."""

from collections.abc import Iterator
from queue import Empty, Full, Queue
from threading import Event
from typing import Generic, TypeVar

T = TypeVar("T")
POLL_S = 0.1


class ReaderGone(Exception):
    """Nobody reads what is put: stop making it."""


class Lane(Generic[T]):
    """Items from one thread to another, in order."""

    def __init__(self, size: int) -> None:
        self._items: Queue[T] = Queue(size)
        self._ended = Event()
        self._left = Event()
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Waits while it is full.

        Raises:
            ReaderGone
        """
        while True:
            if self._left.is_set():
                raise ReaderGone
            try:
                return self._items.put(item, timeout=POLL_S)
            except Full:
                continue

    def end(self, error: BaseException | None = None) -> None:
        """There will be no more; with an error, the reader gets it after the items."""
        self._error = error
        self._ended.set()

    def leave(self) -> None:
        """The reader wants no more."""
        self._left.set()

    def __iter__(self) -> Iterator[T]:
        while True:
            try:
                yield self._items.get(timeout=POLL_S)
            except Empty:
                if self._ended.is_set() and self._items.empty():
                    if self._error is not None:
                        raise self._error from None
                    return
