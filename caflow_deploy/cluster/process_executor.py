"""Executor whose workers are processes on this machine.

Each worker is a pool of one process, so that the unit of a process that dies is known. Workers watch a pipe, the
lifeline. They end when the process that started them closes it or is killed.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import TYPE_CHECKING

from caflow_cli.stops import ctrl_c_blocked
from caflow_deploy.cluster.executor import (
    Function,
    Result,
    Unit,
    Worker,
    WorkerConfig,
    WorkerExecutor,
    open_worker_pipeline,
)

if TYPE_CHECKING:
    from caflow_runtime.pipeline.pipeline import Pipeline

SPAWN = multiprocessing.get_context("spawn")
PATIENCE_S = 5
"""Seconds within which a worker must end. Workers that compute end at once, so one that does not hangs."""


class ProcessExecutor(WorkerExecutor):
    """Worker processes on this machine. They start at the first call of `run`."""

    def __init__(self, config: WorkerConfig, size: int) -> None:
        super().__init__(config, size)
        self._lifeline, self._writer = SPAWN.Pipe(duplex=False)
        self._workers: list[ProcessWorker] = []

    def workers(self, count: int) -> Sequence[Worker]:
        while len(self._workers) < count:
            self._workers.append(ProcessWorker(self.config, self._lifeline))
        return self._workers

    def close(self) -> None:
        """End all workers, even if they are busy."""
        self._writer.close()
        for worker in self._workers:
            worker.close()
        self._lifeline.close()


class ProcessWorker:
    """One worker: a pool of one process."""

    errors_of_death = (BrokenProcessPool,)

    def __init__(self, config: WorkerConfig, lifeline: Connection) -> None:
        self.config, self.lifeline = config, lifeline
        self.pool = self._pool()
        self.processes: set[BaseProcess] = set()

    def submit(self, function: Function[Unit, Result], unit: Unit) -> "Future[Result]":
        """Send a unit to the worker."""
        with ctrl_c_blocked():  # the command ends its workers itself
            try:
                return self._submit(function, unit)
            except BrokenProcessPool:  # the process died while it was idle
                self.restart()
                return self._submit(function, unit)

    def restart(self) -> None:
        """Replace a process that died."""
        self.close()
        self.pool = self._pool()

    def close(self) -> None:
        """Wait until the process has ended. It has died already, or ends because the lifeline is closed.

        A process that hangs, for example in a driver, is killed.
        """
        for process in self.processes:
            process.join(PATIENCE_S)
            process.kill()
        self.processes.clear()
        self.pool.shutdown(cancel_futures=True)

    def _submit(self, function: Function[Unit, Result], unit: Unit) -> "Future[Result]":
        """Submit a unit to the pool, and note the process that the pool starts at its first task."""
        before = set(multiprocessing.active_children())
        future = self.pool.submit(_process, function, unit)
        self.processes |= set(multiprocessing.active_children()) - before
        return future

    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, SPAWN, _open, (self.config, self.lifeline))


@contextmanager
def open_process_executor(config: WorkerConfig, size: int) -> Iterator[ProcessExecutor]:
    """Yield worker processes on this machine that end with the block."""
    executor = ProcessExecutor(config, size)
    try:
        yield executor
    finally:
        executor.close()


class _Here:
    """State of a worker process."""

    pipe: "Pipeline | None" = None
    wrong: Exception | None = None


def _open(config: WorkerConfig, lifeline: Connection) -> None:
    """Initialize a worker process: open its pipeline.

    An error is stored and raised by the first unit, because an error of the initializer never reaches the command.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    try:
        _Here.pipe = open_worker_pipeline(config)
    except Exception as error:
        _Here.wrong = error


def _end_with(lifeline: Connection) -> None:
    """End this process when the other end of the lifeline is closed, or when the process that holds it has ended."""
    lifeline.poll(None)
    os._exit(1)


def _process(function: Function[Unit, Result], unit: Unit) -> Result:
    """Process a unit in a worker process."""
    if _Here.wrong is not None:
        raise _Here.wrong
    assert _Here.pipe is not None
    return function(_Here.pipe, unit)
