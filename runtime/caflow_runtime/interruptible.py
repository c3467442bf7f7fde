"""Calls of libraries that a signal interrupts, such as a run of a graph, and blocks that none may interrupt.

Python handles signals in the main thread only, and only between two of its own instructions. The main thread therefore
waits, which a signal can interrupt, while another thread makes the call.
"""

import atexit
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from functools import cache
from queue import SimpleQueue
from threading import Thread, current_thread, main_thread
from time import monotonic
from typing import Any, TypeVar

Result = TypeVar("Result")

PATIENCE_S = 0.5
"""Seconds to wait for the end of an interrupted call. ONNX Runtime ends a graph after an operator, which may take long;
the call is then left alone."""
POLL_S = 0.2
"""Seconds between two looks at whether a call of `bounded` must be left alone."""
_left: set[Future[Any]] = set()
"""Calls that were left alone."""
_bounded: set[Future[Any]] = set()
"""Running calls of `bounded`."""
_held: list[int] = []
"""Signals that wait for the end of a block of `deferring_stops`."""
STOPPING = (signal.SIGINT, signal.SIGTERM)
"""Signals that stop a program: Ctrl-C, and what services are stopped by."""


def interruptible(call: Callable[[], Result], end: Callable[[], None]) -> Result:
    """Return what `call` returns. In the main thread, the handler of a signal may raise an exception meanwhile.

    Arguments:
        end: lets `call` return early. It is called after such an exception, if the call has begun.

    Raises:
        BaseException: what `call` or the handler of a signal raises, such as `KeyboardInterrupt`.
    """
    if current_thread() is not main_thread():
        return call()
    future: Future[Result] = Future()
    try:
        _calls(os.getpid()).put((future, call))
        return future.result()
    except BaseException:
        if not future.cancel() and not future.done():
            try:
                end()
            finally:
                _leave(future)
                wait([future], PATIENCE_S)
        raise
    finally:
        del future  # which has the exception of `call`, whose traceback has this frame


def bounded(call: Callable[[], Result], seconds: float) -> Result:
    """Return what `call` returns. Stop waiting if it takes too long, or if a signal stops the program.

    The call is made in a thread of its own, which then continues until the process ends.

    Arguments:
        seconds: maximum time to wait.

    Raises:
        TimeoutError: if the call takes longer.
        BaseException: what `call` or the handler of a signal raises; KeyboardInterrupt also within `deferring_stops`.
    """
    future: Future[Result] = Future()
    _bounded.add(future)
    future.add_done_callback(_bounded.discard)
    Thread(target=_make, args=(future, call), daemon=True).start()
    try:
        latest = monotonic() + seconds
        while not wait([future], POLL_S).done:
            if _held and current_thread() is main_thread():
                raise KeyboardInterrupt
            if monotonic() > latest:
                raise TimeoutError
        return future.result()
    finally:
        if not future.done():
            _leave(future)
        del future  # which has the exception of `call`, whose traceback has this frame


@contextmanager
def abandoned(pool: ThreadPoolExecutor) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool. When the block ends, for example by a signal, running calls are not waited for."""
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def is_call_left(is_stopped: bool = False) -> bool:
    """Return whether a call that was left alone still runs. If it ended while Python shuts down, that would abort.

    Arguments:
        is_stopped: whether a signal stopped the program; then calls of `bounded` in other threads count, too.
    """
    return bool(_left or (is_stopped and _bounded))


def _leave(future: Future[Any]) -> None:
    _left.add(future)
    future.add_done_callback(_left.discard)


@atexit.register
def _wait_for_calls_left() -> None:
    wait(list(_left))


@cache
def _calls(_: int) -> SimpleQueue[tuple[Future[Any], Callable[[], Any]]]:
    """Start the thread of a process that makes the calls, and return its queue. The process may end during a call."""
    calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()

    def make_all() -> None:
        while True:
            _make(*calls.get())  # a function of its own, so that no variable keeps arrays until the next call

    Thread(target=make_all, name="interruptible", daemon=True).start()
    return calls


def _make(future: Future[Result], call: Callable[[], Result]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call())
    except BaseException as error:
        future.set_exception(error)
    finally:
        del future  # as above


@contextmanager
def deferring_stops() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the end of the block, because its code would lose their exceptions.

    Outside the main thread this does nothing, because Python handles signals in the main thread only.
    """
    if current_thread() is not main_thread():
        yield
        return
    with ExitStack() as stack:  # runs all its callbacks, the last one first, even if a stop interrupts one of them
        stack.callback(_raise_held)
        for number in STOPPING:
            stack.callback(signal.signal, number, signal.getsignal(number))
            signal.signal(number, lambda *_, n=number: _held.append(n))
        yield


def _raise_held() -> None:
    if _held:
        first = _held[0]
        _held.clear()
        signal.raise_signal(first)
