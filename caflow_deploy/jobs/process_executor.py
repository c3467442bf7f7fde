"""Executor whose workers are processes on this machine. Each processes one unit at a time."""

import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from caflow_deploy.jobs.child_process import ChildProcess, ProcessDied
from caflow_deploy.jobs.executor import (
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


class ProcessExecutor(WorkerExecutor):
    """Worker processes on this machine. They start at the first call of `run`."""

    def __init__(self, config: WorkerConfig, size: int) -> None:
        super().__init__(config, size)
        self._workers: list[ProcessWorker] = []

    def workers(self, count: int) -> Sequence[Worker]:
        while len(self._workers) < count:
            self._workers.append(ProcessWorker(self.config))
        return self._workers

    def close(self) -> None:
        """End all workers, even if they are busy, and wait until they have ended."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait_for_end()
            worker.thread.shutdown()


class ProcessWorker:
    """One worker: a process, and a thread that waits for its answers."""

    errors_of_death = (ProcessDied,)

    def __init__(self, config: WorkerConfig) -> None:
        """Start the process."""
        self.process, self.thread = ChildProcess(_process_units, config), ThreadPoolExecutor(1)
        self.process.start()

    def submit(self, function: Function[Unit, Result], unit: Unit) -> "Future[Result]":
        """Send a unit to the process."""
        return self.thread.submit(self._process, function, unit)

    def restart(self) -> None:
        """Replace a process that died."""
        self.process.start()

    def _process(self, function: Function[Unit, Result], unit: Unit) -> Result:
        result: Result
        result, error = self.process.ask((function, unit))
        if error is not None:
            raise error
        return result


@contextmanager
def open_process_executor(config: WorkerConfig, size: int) -> Iterator[ProcessExecutor]:
    """Yield worker processes on this machine that end with the block."""
    executor = ProcessExecutor(config, size)
    try:
        yield executor
    finally:
        executor.close()


def _process_units(connection: Connection, config: WorkerConfig) -> None:
    """Open a pipeline, process units, and send a result or an error for each.

    If the pipeline cannot be opened, this error is the answer to every unit.
    """
    pipe: Pipeline | None = None
    wrong: Exception | None = None
    try:
        pipe = open_worker_pipeline(config)
    except Exception as error:
        wrong = error
    with suppress(EOFError, BrokenPipeError):  # the command has ended
        while True:
            connection.send(_result(pipe, wrong, *connection.recv()))


def _result(
    pipe: "Pipeline | None", wrong: Exception | None, function: Function[Unit, Result], unit: Unit
) -> tuple[Result | None, Exception | None]:
    if pipe is None:
        return None, wrong
    try:
        return function(pipe, unit), None
    except Exception as error:
        error.add_note(traceback.format_exc())
        return None, error
