"""Executors: they process the units of a job in this process, in worker processes, or on a Ray cluster.

Each worker holds one pipeline and processes one unit at a time. Each unit is processed at least once: if a worker dies,
its unit is tried again by another worker.
"""

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from caflow_runtime.errors import BackendError, InputError

if TYPE_CHECKING:
    from caflow_runtime.pipeline.pipeline import Pipeline

MAX_ATTEMPTS = 4
"""Number of times that a unit is tried if its worker dies each time."""

Unit = TypeVar("Unit")
Result = TypeVar("Result")
Function = Callable[["Pipeline", Unit], Result]
"""Function that processes a unit. For workers it is pickled by name: a function of a module, or a `partial` of one."""


class WorkerLost(BackendError):
    """Every worker that tried a unit died."""

    def __init__(self, unit: str) -> None:
        """Start with the name of the unit, such as the path of its file."""
        super().__init__(
            f"{unit}: every worker that tried it died, perhaps for lack of memory; use fewer --workers, or "
            "a smaller input"
        )


@dataclass(frozen=True)
class WorkerConfig:
    """Bundle that workers open, and settings to run it with."""

    bundle: str
    """Path of the bundle, valid on all machines, or the name of a built-in model."""
    settings: dict[str, Any]
    """Expected `settings_of_pipeline`, as `flat` returns them. A worker with another bundle or calibration fails."""
    versions: dict[str, str]
    """Expected `versions_here`. A worker with other versions fails. Empty if workers run on this machine."""
    backend: str
    threads: int
    options: dict[str, Any]
    """Further arguments of `load`."""


class Executor(ABC):
    """One or several workers."""

    size: int
    """Number of workers."""
    backend: str
    """`Pipeline.backend` of the workers' pipelines."""

    def run(
        self,
        function: Function[Unit, Result],
        units: Sequence[Unit],
        name: Callable[[Unit], str] = str,
        in_order: bool = False,
    ) -> Iterator[tuple[Unit, Result | WorkerLost]]:
        """Process all units. Yield each with its result, or with an error if every worker that tried it died.

        Arguments:
            name: returns the name of a unit for the message of `WorkerLost`.
            in_order: whether results are yielded in the order of the units. If not, they are yielded as soon as they
                are available.

        Raises:
            Exception: whatever `function` raised, or a worker raised while it opened its pipeline.
            BackendError: if workers die repeatedly before they have opened their pipelines.
        """
        found = self._results(function, units, name)
        return ((units[number], result) for number, result in (_ordered(found) if in_order else found))

    def results(
        self,
        function: Function[Unit, Result],
        units: Sequence[Unit],
        name: Callable[[Unit], str],
        in_order: bool = False,
    ) -> Iterator[Result]:
        """Yield the results of `run`.

        Raises:
            WorkerLost: if every worker that tried a unit died.
            Exception: as `run`.
        """
        for _, result in self.run(function, units, name, in_order):
            if isinstance(result, WorkerLost):
                raise result
            yield result

    @abstractmethod
    def _results(
        self, function: Function[Unit, Result], units: Sequence[Unit], name: Callable[[Unit], str]
    ) -> Iterator[tuple[int, Result | WorkerLost]]:
        """Yield the indices of units with their results, in the order in which they are finished."""


class SerialExecutor(Executor):
    """Executor that processes the units in this process, in their order, each when its result is requested."""

    def __init__(self, pipe: "Pipeline") -> None:
        self.pipe, self.size, self.backend = pipe, 1, pipe.backend

    def _results(
        self, function: Function[Unit, Result], units: Sequence[Unit], name: Callable[[Unit], str]
    ) -> Iterator[tuple[int, Result | WorkerLost]]:
        return ((number, function(self.pipe, unit)) for number, unit in enumerate(units))


class Worker(Protocol):
    """Process with one pipeline."""

    @property
    def errors_of_death(self) -> tuple[type[Exception], ...]:
        """Errors of futures if the process has died."""

    def submit(self, function: Function[Unit, Result], unit: Unit) -> "Future[Result]":
        """Process a unit once the pipeline is open. An error that the function raises is that of the future."""

    def restart(self) -> None:
        """Replace a process that died."""


class WorkerExecutor(Executor):
    """Executor whose units are processed by workers."""

    def __init__(self, config: WorkerConfig, size: int) -> None:
        self.config, self.size, self.backend = config, size, config.settings["backend"]

    @abstractmethod
    def workers(self, count: int) -> Sequence[Worker]:
        """Return this number of workers."""

    def _results(
        self, function: Function[Unit, Result], units: Sequence[Unit], name: Callable[[Unit], str]
    ) -> Iterator[tuple[int, Result | WorkerLost]]:
        workers = self.workers(min(self.size, len(units)))
        waiting, unfinished = deque(range(len(units))), len(units)
        attempts: Counter[int | None] = Counter()  # None: lost while opening pipelines, in a row
        running: dict[Future[Any], tuple[Worker, int | None]]
        running = {worker.submit(_do_nothing, None): (worker, None) for worker in workers}
        while unfinished:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                worker, number = running.pop(future)
                result: Result | WorkerLost
                try:
                    result = future.result()
                except worker.errors_of_death:
                    attempts[number] += 1
                    if number is None and attempts[None] == MAX_ATTEMPTS * len(workers):
                        raise BackendError(
                            f"{attempts[None]} workers in a row died while they opened {self.config.bundle}, perhaps "
                            "for lack of memory; give fewer --workers"
                        ) from None
                    worker.restart()
                    running[worker.submit(_do_nothing, None)] = worker, None
                    if number is None:
                        continue
                    if attempts[number] < MAX_ATTEMPTS:
                        waiting.appendleft(number)
                        continue
                    result = WorkerLost(name(units[number]))
                else:
                    attempts[None] = 0
                    if waiting:
                        following = waiting.popleft()
                        running[worker.submit(function, units[following])] = worker, following
                if number is not None:
                    unfinished -= 1
                    yield number, result


def open_worker_pipeline(config: WorkerConfig) -> "Pipeline":
    """Open the pipeline of a worker.

    Raises:
        InputError: if the bundle, or the version of a package, is not that of the command.
        BundleError, BackendError: as from `load`.
    """
    from caflow_deploy.silence import silence

    silence()
    from caflow_deploy.jobs.folder import flat, settings_of_pipeline
    from caflow_runtime.pipeline.pipeline import load

    here = versions_here() if config.versions else {}
    for package, wanted in config.versions.items():
        if (found := here[package]) != wanted:
            raise InputError(
                f"{package} {found} is installed, but the command runs with {wanted}; install {package} {wanted}"
            )
    pipe = load(config.bundle, config.backend, config.threads, **config.options)
    if flat(settings_of_pipeline(pipe)) != config.settings:
        raise InputError(
            f"{pipe.folder} is not the bundle of the command, or has another calibration; copy the command's bundle"
        )
    return pipe


def versions_here() -> dict[str, str]:
    """Return the versions of the packages that results depend on."""
    from caflow_runtime.backends.onnx_packages import import_onnxruntime

    return {"caflow-deploy": version("caflow-deploy"), "onnxruntime": import_onnxruntime().__version__}


def _do_nothing(_: "Pipeline", __: None) -> None:
    """Unit of no work, which is done as soon as the pipeline is open."""


def _ordered(results: Iterator[tuple[int, Result]]) -> Iterator[tuple[int, Result]]:
    waiting: dict[int, Result] = {}
    following = 0
    for number, result in results:
        waiting[number] = result
        while following in waiting:
            yield following, waiting.pop(following)
            following += 1
