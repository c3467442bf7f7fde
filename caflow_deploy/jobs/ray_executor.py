"""Executor whose workers are actors on the machines of a Ray cluster."""

import socket
import sys
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from typing import Any

from caflow_cli.stops import handle_sigterm
from caflow_deploy.jobs.cluster import cluster, lines_of
from caflow_deploy.jobs.executor import (
    Function,
    Result,
    Unit,
    Worker,
    WorkerConfig,
    WorkerExecutor,
    open_worker_pipeline,
)
from caflow_runtime.errors import BackendError, CaflowError, InputError


class RayExecutor(WorkerExecutor):
    """Workers on a Ray cluster. They start at each call of `run`."""

    def __init__(self, ray: Any, config: WorkerConfig, size: int) -> None:
        super().__init__(config, size)
        self.ray = ray

    def workers(self, count: int) -> Sequence[Worker]:
        return [RayWorker(self.ray, self.config) for _ in range(count)]


class RayWorker:
    """One worker: an actor. It waits until a machine of the cluster is free."""

    def __init__(self, ray: Any, config: WorkerConfig) -> None:
        self.ray, self.config = ray, config
        self.errors_of_death = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)
        gpus = 1 if config.backend == "cuda" else 0
        self._kind = ray.remote(Actor).options(num_cpus=config.threads, num_gpus=gpus)
        self._actor = self._kind.remote(config)

    def submit(self, function: Function[Unit, Result], unit: Unit) -> "Future[Result]":
        """Send a unit to the actor."""
        sent: Future[tuple[Result, Exception | None]] = self._actor.process.remote(function, unit).future()
        answer: Future[Result] = Future()
        sent.add_done_callback(lambda done: self._pass_on(done, answer))
        return answer

    def restart(self) -> None:
        """Start another actor."""
        self.ray.kill(self._actor)  # it may still run if only its machine cannot be reached
        self._actor = self._kind.remote(self.config)

    def _pass_on(self, sent: "Future[tuple[Any, Exception | None]]", answer: "Future[Any]") -> None:
        """Complete a future with the result, or the error, that the actor returned."""
        try:
            result, error = sent.result()
        except self.errors_of_death as lost:
            result, error = None, lost
        except Exception as failure:
            result, error = None, BackendError(f"Ray failed: {lines_of(failure)[-1]}")
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)


class Actor:
    """Process with one pipeline. It returns exceptions as results: Ray would print them and change their types."""

    def __init__(self, config: WorkerConfig) -> None:
        self.wrong: Exception | None = None
        try:
            self.pipe = open_worker_pipeline(config)
        except Exception as error:
            self.wrong = _explained(error)

    def process(self, function: Function[Unit, Result], unit: Unit) -> tuple[Result | None, Exception | None]:
        """Return the result of a unit, or the error."""
        if self.wrong is not None:
            return None, self.wrong
        try:
            return function(self.pipe, unit), None
        except Exception as error:
            return None, _explained(error)


@contextmanager
def open_ray_executor(address: str | None, config: WorkerConfig, workers: int | None) -> Iterator[RayExecutor]:
    """Yield workers on a Ray cluster that end with the block. Until then, standard output leads to standard error.

    Arguments:
        address: as in `cluster`.
        config: the bundle to open. Its backend "auto" is CUDA if the cluster has GPUs and onnxruntime-gpu is installed
            on this machine, otherwise the CPU.
        workers: number of workers; None is one for each GPU, or one for every `config.threads` cores of a machine.

    Raises:
        InputError: if the cluster cannot be reached, or no machine has enough cores, or a GPU, for a worker.
    """
    with redirect_stdout(sys.stderr), cluster(address) as ray:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        auto = "cuda" if gpus and _has_gpu_package() else "cpu"
        backend = auto if config.backend == "auto" else config.backend
        room = gpus if backend == "cuda" else sum(int(node.get("CPU", 0)) // config.threads for node in nodes)
        if not room:
            wanted = (
                "a GPU; give --backend cpu" if backend == "cuda" else f"{config.threads} cores; give fewer --threads"
            )
            raise InputError(f"no machine of the cluster has {wanted}")
        handle_sigterm()  # again, because Ray has replaced the handler
        settings = {**config.settings, "backend": f"onnxruntime {backend}"}
        yield RayExecutor(ray, replace(config, backend=backend, settings=settings), workers or room)


def _explained(error: Exception) -> Exception:
    """Return an error with the name of this machine. An unexpected error keeps its type and gets its traceback."""
    if isinstance(error, CaflowError | OSError):
        return InputError(f"on {socket.gethostname()}: {error}")
    error.add_note(traceback.format_exc())
    return error


def _has_gpu_package() -> bool:
    from caflow_runtime.backends.onnx_packages import is_installed

    return is_installed("onnxruntime-gpu")
