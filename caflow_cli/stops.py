"""Signals that stop a command: Ctrl-C, and SIGTERM, which stops services. They differ only in the exit code."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal, NoReturn

from caflow_cli.standard_streams import print_message

STOPPED = {128 + signal.SIGINT, 128 + signal.SIGTERM}
"""Exit codes of stopped commands."""


class Terminated(KeyboardInterrupt):
    """Raised by SIGTERM. It is a `KeyboardInterrupt`, so that code which handles Ctrl-C also handles SIGTERM."""


def handle_sigterm() -> None:
    """Make SIGTERM raise `Terminated` in the main thread of this process."""
    signal.signal(signal.SIGTERM, _terminate)


def exit_code(stop: KeyboardInterrupt) -> int:
    """Return the exit code of a stopped command: 128 plus the signal's number, which is 130 or 143."""
    return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


@contextmanager
def ending_when_stopped(program: str) -> Iterator[None]:
    """Handle SIGTERM. If the block is stopped and does not report that itself, report it and exit."""
    handle_sigterm()
    try:
        yield
    except KeyboardInterrupt as stop:
        print_message(f"{program}: stopped")
        sys.exit(exit_code(stop))
    finally:
        _forget_interrupted_exec()


@contextmanager
def ctrl_c_blocked() -> Iterator[None]:
    """Block Ctrl-C for processes that are started in the block, also while they start."""
    with _ctrl_c_masked("SIG_BLOCK"):
        yield


@contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C end this process at once and silently, although it was started by `ctrl_c_blocked`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with _ctrl_c_masked("SIG_UNBLOCK"):
        yield


@contextmanager
def _ctrl_c_masked(how: Literal["SIG_BLOCK", "SIG_UNBLOCK"]) -> Iterator[None]:
    """Block or unblock SIGINT in this thread until the end of the block."""
    before = signal.pthread_sigmask(getattr(signal, how), {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _terminate(_: int, __: FrameType | None) -> NoReturn:
    raise Terminated


def _forget_interrupted_exec() -> None:
    """Make `python -m` end with the command's exit code even if Ctrl-C interrupted the execution of a string.

    CPython remembers such an interrupt and ends the process by SIGINT, although the KeyboardInterrupt was handled.
    Imports execute strings, too, for each `namedtuple` and `dataclass`. CPython forgets the interrupt when it evaluates
    the next string.
    """
    eval("None")
