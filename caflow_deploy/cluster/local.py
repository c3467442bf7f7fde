"""Workers that are processes of this machine.

Each is a pool of one process: a process that dies breaks its pool alone, so what it was doing is known. All end when
the process that started them closes the lifeline, or is killed.
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
from threading import Thread
from typing import TYPE_CHECKING, Any

from caflow_deploy.cluster.fleet import ATTEMPTS, Place, Result, Unit, Work, open_pipeline
from caflow_runtime.errors import BackendError

if TYPE_CHECKING:
    from caflow_runtime.pipeline.pipeline import Pipeline

SPAWN = multiprocessing.get_context("spawn")


class LocalFleet:
    """Processes of this machine; they start when there is work."""

    def __init__(self, place: Place, size: int) -> None:
        self.place, self.size = place, size
        self._lifeline, self._writer = SPAWN.Pipe(duplex=False)
        self._workers: list[_Worker] = []

    @property
    def backend(self) -> str:
        """As `Pipeline.backend` is of the workers' pipelines."""
        return str(self.place.settings["backend"])

    def run(self, work: Work[Unit, Result]) -> Iterator[tuple[Unit, Result | None]]:
        """As `Fleet.run`."""
        found = self._results(work)
        return ((work.units[number], result) for number, result in (_ordered(found) if work.in_order else found))

    def close(self) -> None:
        """End all workers, whatever they do."""
        self._writer.close()
        for worker in self._workers:
            worker.close()
        self._lifeline.close()

    def _results(self, work: Work[Unit, Result]) -> Iterator[tuple[int, Result | None]]:
        """Numbers of units, as they are done."""
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
                            f"{lost_starts} workers in a row died while they opened {self.place.bundle}: perhaps "
                            "memory is short, give fewer --workers"
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
    """A pool of one process."""

    def __init__(self, place: Place, lifeline: Connection) -> None:
        self.place, self.lifeline = place, lifeline
        self.pool = self._pool()

    def begin(self, do: Callable[..., Result], units: Sequence[Any]) -> "Future[list[Result]]":
        """Send it a part of the work; an empty one is done as soon as the pipeline is open."""
        with _heedless_of_ctrl_c():
            try:
                return self.pool.submit(_do, do, units)
            except BrokenProcessPool:  # it died while it had nothing to do
                self.restart()
                return self.pool.submit(_do, do, units)

    def restart(self) -> None:
        """Put another process in place of one that died."""
        self.close()
        self.pool = self._pool()

    def close(self) -> None:
        """Wait for the process, which has died or will, as the lifeline is closed."""
        self.pool.shutdown(cancel_futures=True)

    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, SPAWN, _open, (self.place, self.lifeline))


@contextmanager
def open_local_fleet(place: Place, size: int) -> Iterator[LocalFleet]:
    """Processes of this machine, which end with the block."""
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


@contextmanager
def _heedless_of_ctrl_c() -> Iterator[None]:
    """Processes that are started in the block never see Ctrl-C, not even while they start: the command ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Here:
    """What a worker's process holds."""

    pipe: "Pipeline | None" = None
    wrong: Exception | None = None


def _open(place: Place, lifeline: Connection) -> None:
    """Begin a worker. What goes wrong is said by its first part: here it would be printed, and lost."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    try:
        _Here.pipe = open_pipeline(place)
    except Exception as error:
        _Here.wrong = error


def _end_with(lifeline: Connection) -> None:
    """End this process when the other end of the lifeline is closed, or the process that holds it is gone."""
    lifeline.poll(None)
    os._exit(1)


def _do(do: "Callable[[Pipeline, Unit], Result]", units: Sequence[Unit]) -> list[Result]:
    """A part of the work."""
    if _Here.wrong is not None:
        raise _Here.wrong
    assert _Here.pipe is not None
    return [do(_Here.pipe, unit) for unit in units]
