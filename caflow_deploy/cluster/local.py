"""Workers that are processes on this machine.

Each worker is a pool of one process. If a process dies, only its own pool breaks, so the units it was processing are
known. Workers watch a pipe, the lifeline. They end when the process that started them closes it or is killed.
"""

import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import TYPE_CHECKING, Any

from caflow_deploy.cluster.fleet import ATTEMPTS, Place, Result, Unit, Work, open_pipeline
from caflow_deploy.stops import heedless_of_ctrl_c
from caflow_runtime.errors import BackendError

if TYPE_CHECKING:
    from caflow_runtime.pipeline.pipeline import Pipeline

SPAWN = multiprocessing.get_context("spawn")
PATIENCE_S = 5
"""Seconds within which a worker must end. Workers that compute end at once, so one that does not hangs."""


class LocalFleet:
    """Worker processes on this machine. They start at the first call of `run`."""

    def __init__(self, place: Place, size: int) -> None:
        self.place, self.size = place, size
        self._lifeline, self._writer = SPAWN.Pipe(duplex=False)
        self._workers: list[_Worker] = []

    @property
    def backend(self) -> str:
        """`Pipeline.backend` of the workers' pipelines."""
        return str(self.place.settings["backend"])

    def run(self, work: Work[Unit, Result]) -> Iterator[tuple[Unit, Result | None]]:
        """Process all units, as `Fleet.run`."""
        found = self._results(work)
        return ((work.units[number], result) for number, result in (_ordered(found) if work.in_order else found))

    def close(self) -> None:
        """End all workers, even if they are busy."""
        self._writer.close()
        for worker in self._workers:
            worker.close()
        self._lifeline.close()

    def _results(self, work: Work[Unit, Result]) -> Iterator[tuple[int, Result | None]]:
        """Yield the indices of units with their results, in the order in which they are finished."""
        do, units, parts = work.do, work.units, deque(work.parts(self.size))
        while len(self._workers) < min(self.size, len(parts)):
            self._workers.append(_Worker(self.place, self._lifeline))
        attempts: Counter[int] = Counter()
        lost_starts, opening = 0, range(0)
        running = {worker.begin(do, []): (worker, opening) for worker in self._workers}
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                worker, part = running.pop(future)
                try:
                    results = future.result()
                except BrokenProcessPool:
                    lost_starts += not part
                    if lost_starts == ATTEMPTS * self.size:
                        raise BackendError(
                            f"{lost_starts} workers in a row died while they opened {self.place.bundle}, perhaps for "
                            "lack of memory; give fewer --workers"
                        ) from None
                    attempts.update(part)
                    yield from ((number, None) for number in part if attempts[number] == ATTEMPTS)
                    parts.extendleft(range(k, k + 1) for k in reversed(part) if attempts[k] < ATTEMPTS)
                    worker.restart()
                    running[worker.begin(do, [])] = worker, opening
                    continue
                lost_starts = 0
                yield from zip(part, results, strict=True)
                if parts:
                    part = parts.popleft()
                    running[worker.begin(do, [units[number] for number in part])] = worker, part


class _Worker:
    """One worker: a pool of one process."""

    def __init__(self, place: Place, lifeline: Connection) -> None:
        self.place, self.lifeline = place, lifeline
        self.pool = self._pool()
        self.processes: set[BaseProcess] = set()

    def begin(self, do: Callable[..., Result], units: Sequence[Any]) -> "Future[list[Result]]":
        """Send units to the worker. Without units, the future is done as soon as the pipeline is open."""
        with heedless_of_ctrl_c():  # the command ends its workers itself
            try:
                return self._submit(do, units)
            except BrokenProcessPool:  # the process died while it was idle
                self.restart()
                return self._submit(do, units)

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

    def _submit(self, do: Callable[..., Result], units: Sequence[Any]) -> "Future[list[Result]]":
        """Submit units to the pool, and note the process that the pool starts at its first task."""
        before = set(multiprocessing.active_children())
        future = self.pool.submit(_do, do, units)
        self.processes |= set(multiprocessing.active_children()) - before
        return future

    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, SPAWN, _open, (self.place, self.lifeline))


@contextmanager
def open_local_fleet(place: Place, size: int) -> Iterator[LocalFleet]:
    """Yield worker processes on this machine that end with the block."""
    fleet = LocalFleet(place, size)
    try:
        yield fleet
    finally:
        fleet.close()


def _ordered(results: "Iterator[tuple[int, Result | None]]") -> "Iterator[tuple[int, Result | None]]":
    waiting: dict[int, Result | None] = {}
    following = 0
    for number, result in results:
        waiting[number] = result
        while following in waiting:
            yield following, waiting.pop(following)
            following += 1


class _Here:
    """State of a worker process."""

    pipe: "Pipeline | None" = None
    wrong: Exception | None = None


def _open(place: Place, lifeline: Connection) -> None:
    """Initialize a worker process: open its pipeline.

    An error is stored and raised by the first part of the work, because an error of the initializer never reaches the
    command.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    try:
        _Here.pipe = open_pipeline(place)
    except Exception as error:
        _Here.wrong = error


def _end_with(lifeline: Connection) -> None:
    """End this process when the other end of the lifeline is closed, or when the process that holds it has ended."""
    lifeline.poll(None)
    os._exit(1)


def _do(do: "Callable[[Pipeline, Unit], Result]", units: Sequence[Unit]) -> list[Result]:
    """Process a part of the work in a worker process."""
    if _Here.wrong is not None:
        raise _Here.wrong
    assert _Here.pipe is not None
    return [do(_Here.pipe, unit) for unit in units]
