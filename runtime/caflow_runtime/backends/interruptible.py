"""Calls of libraries that a signal interrupts, such as a run of a graph, which may take minutes.

Python handles signals in the main thread only, and only between two of its own instructions. The main thread therefore
waits, which a signal can interrupt, while another thread makes the call.
"""

import atexit
import os
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import cache
from queue import SimpleQueue
from threading import Thread, current_thread, main_thread
from typing import Any, TypeVar

Result = TypeVar("Result")

PATIENCE_S = 0.5
"""Seconds to wait for the end of an interrupted call. ONNX Runtime ends a graph after an operator, which may take long;
the call is then left alone."""
_left: set[Future[Any]] = set()
"""Interrupted calls that were left alone."""


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
                _left.add(future)
                future.add_done_callback(_left.discard)
                wait([future], PATIENCE_S)
        raise
    finally:
        del future  # which has the exception of `call`, whose traceback has this frame


def is_call_left() -> bool:
    """Return whether an interrupted call still runs. If it ended while Python shuts down, the process would abort."""
    return bool(_left)


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
