"""Worker process of a server: it holds models, and answers batches of requests until its connection ends."""

import logging
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from caflow_deploy.images.open_models import RunOptions, opened
from caflow_deploy.serving.failures import Failure, failure_of
from caflow_deploy.serving.image_answers import answer_image
from caflow_deploy.serving.image_requests import ImageAnswer, ImageRequest
from caflow_deploy.serving.model_instruments import Prometheus, request_counter
from caflow_deploy.serving.request import Request, Tensors
from caflow_deploy.serving.served_models import SERVICES
from caflow_deploy.serving.service import Service
from caflow_deploy.silence import silence
from caflow_runtime.backends.gpu import find_gpus, has_gpu
from caflow_runtime.backends.onnx_packages import is_installed
from caflow_runtime.backends.select import BackendName, may_use_gpu, split_device
from caflow_runtime.errors import BackendError, CaflowError, format_error

CHECK = ""
"""In place of a model's name: the request is a check that the worker can compute."""
EXPECTED = (CaflowError, MemoryError, TimeoutError)
"""Types of errors that do not indicate that the worker is broken, except for `BackendError`."""
LOG = logging.getLogger("caflow.serve")

Asked = tuple[str, Request]
"""Name of the model, and the request."""
Batch = list[Asked] | ImageRequest
"""Requests that are computed together, or one request with an image file, which may take minutes."""
Reply = list[Tensors | ImageAnswer | Failure]
"""Answers in the order of the requests. A worker sends an empty list when it has opened the bundle."""


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of a worker process."""

    bundle: Path
    backend: BackendName
    threads: int
    max_pixels: int
    """Maximum number of pixels in the results of one request for tensors, counting all samples."""
    max_image_pixels: int
    """Maximum number of pixels of an image file."""
    metrics_folder: Path | None
    """Folder that the metrics are written to; None if there are none."""


def run(connection: Connection, settings: WorkerSettings, number: int) -> None:
    """Answer batches until the connection ends.

    If the bundle cannot be opened, the only message is the text of the error.

    Arguments:
        number: number of the worker, from 0.
    """
    warnings.showwarning = _show
    silence()
    try:
        worker = OpenWorker(settings, number)
    except (CaflowError, MemoryError, OSError) as error:
        connection.send(format_error(error) or "memory ran out")
        return
    connection.send([])
    while _answer_next(connection, worker):
        pass


class OpenWorker:
    """The services of an open bundle."""

    def __init__(self, settings: WorkerSettings, number: int) -> None:
        """Open the bundle."""
        backend = backend_of(settings.backend, number)
        self._run = RunOptions(backend, settings.threads, max_pixels=settings.max_image_pixels)
        self._open = ExitStack()
        self.pipe = self._open.enter_context(opened(settings.bundle, self._run))  # which requests with files use, too
        folder = settings.metrics_folder
        self._instruments = None if folder is None else Prometheus.of_worker(folder, number)
        services: list[Service] = [kind(self.pipe, settings.max_pixels, self._instruments) for kind in SERVICES]
        self.services = {service.name: service for service in services}

    def answers(self, batch: Batch) -> list[Any]:
        """Return the output tensors or the image file of each request, or the exception that it caused."""
        if isinstance(batch, ImageRequest):
            return [self._image(batch)]
        answers: dict[int, Any] = {k: self._checked() for k, (name, _) in enumerate(batch) if name == CHECK}
        for name, service in self.services.items():
            places = [k for k, (asked, _) in enumerate(batch) if asked == name]
            try:
                found: Sequence[Any] = service.answer([batch[k][1] for k in places])
            except Exception as error:  # requests to the other model still get answers
                found = [error] * len(places)
            answers |= zip(places, found, strict=True)
        return [answers[k] for k in range(len(batch))]

    def check(self) -> None:
        """Raise an exception if the worker cannot compute."""
        next(iter(self.services.values())).check()

    def _image(self, request: ImageRequest) -> ImageAnswer | Exception:
        try:
            return answer_image(request, self._run, self._count)
        except Exception as error:
            return error

    def _count(self, model: str, outcome: str) -> None:
        """Count the outcome of a request with an image file."""
        if self._instruments is not None:
            request_counter(self._instruments, model).labels(model, outcome).inc()

    def _checked(self) -> Tensors | Exception:
        try:
            self.check()
        except Exception as error:
            return error
        return {}


def backend_of(backend: BackendName, number: int) -> BackendName:
    """Return the backend of a worker. If there are several GPUs, workers use them in turns.

    Arguments:
        number: number of the worker, from 0.
    """
    base, _ = split_device(backend)
    if base != backend or not may_use_gpu(backend) or (base == "auto" and not is_installed("onnxruntime-gpu")):
        return backend
    gpus = len(find_gpus()) if has_gpu() else 0
    return f"{'cuda' if base == 'auto' else base}:{number % gpus}" if gpus > 1 else backend


def _answer_next(connection: Connection, worker: OpenWorker) -> bool:
    """Answer the next batch. Return whether there was one.

    After an error that may come from a broken driver or library, the worker checks itself. If the check fails, its
    exception ends the process, and the server starts another one.
    """
    try:
        batch = connection.recv()
    except EOFError:
        return False
    answers = worker.answers(batch)
    errors = [answer for answer in answers if isinstance(answer, BaseException)]
    for error in errors:
        if not isinstance(error, EXPECTED):
            LOG.error("caflow: a request failed", exc_info=error)
    connection.send([failure_of(answer) if isinstance(answer, BaseException) else answer for answer in answers])
    if any(isinstance(error, BackendError) or not isinstance(error, EXPECTED) for error in errors):
        worker.check()
    return True


def _show(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"caflow: {message}", file=sys.stderr)
