"""A process of this machine that answers messages one after the other: a worker of an executor or of a server."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any

from caflow_cli.stops import ctrl_c_blocked
from caflow_runtime.interruptible import STOPPING

SPAWN = multiprocessing.get_context("spawn")
ENDS_S = 5.0
"""Time within which the operating system ends a process that was killed, in seconds."""


class ProcessDied(Exception):
    """A process ended before it answered."""


class ChildProcess:
    """A process with a connection to it. The process that started it alone decides when it ends.

    It ends when it is killed, when its function returns, or when the process that started it has ended.
    """

    connection: Connection

    def __init__(self, function: Callable[..., None], *arguments: Any) -> None:
        """Prepare a process, which `start` starts.

        Arguments:
            function: called in the process, with the connection and the arguments. A function of a module, since it is
                pickled by name.
        """
        self._function, self._arguments = function, arguments
        self._process: BaseProcess | None = None

    def start(self) -> None:
        """Start the process. If it was started before, it is killed first, and its messages are lost."""
        self.kill()
        self.connection, other = SPAWN.Pipe()
        arguments = (self._function, other, *self._arguments)
        self._process = SPAWN.Process(target=_run, args=arguments, daemon=True)
        with ctrl_c_blocked():  # this process ends its children itself
            self._process.start()
        other.close()

    def ask(self, message: Any) -> Any:
        """Send a message, and return the answer.

        Raises:
            ProcessDied: if the process dies meanwhile.
        """
        try:
            self.connection.send(message)
            return self.connection.recv()
        except (EOFError, OSError):
            raise ProcessDied(self.why_it_died()) from None

    def why_it_died(self) -> str:
        """Wait until the process has ended, and return a message with its exit code."""
        self.wait_for_end()
        code = None if self._process is None else self._process.exitcode
        return f"the process ended with exit code {code}, perhaps for lack of memory"

    def kill(self) -> None:
        """End the process, if it runs."""
        if self._process is not None:
            self._process.kill()

    def wait_for_end(self) -> None:
        """Wait until a killed process has ended."""
        if self._process is not None:
            self._process.join(ENDS_S)


def _run(function: Callable[..., None], *arguments: Any) -> None:
    for stop in STOPPING:
        signal.signal(stop, signal.SIG_IGN)
    Thread(target=_end_with_the_parent, daemon=True).start()
    function(*arguments)


def _end_with_the_parent() -> None:
    """End this process at once when the process that started it has ended, also while it computes."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
