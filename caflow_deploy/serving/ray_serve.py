"""Replicas of Ray Serve: the processes that compute the answers of `caflow serve`. Each replica holds a pipeline."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import ray
from grpc.aio._server import Server
from ray import serve
from ray.serve.exceptions import BackPressureError

from caflow_deploy.cluster.cluster import LOOPBACK
from caflow_deploy.serving.failures import Busy, Failure, failure_of
from caflow_deploy.serving.ray_instruments import RayInstruments
from caflow_runtime.backends.select import BackendName
from caflow_runtime.pipeline.pipeline import load
from caflow_runtime.service.request import Answer, Request, Tensors
from caflow_runtime.service.served_models import SERVICES

SHUTDOWN_STEP_S = 0.1
HEALTH_CHECKS_S = 5
"""Time between two health checks, in seconds. It is well below the 20 s after which Ray drops a gauge."""
LOG = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class Settings:
    """Settings of each replica."""

    bundle: Path
    backend: BackendName
    threads: int
    max_pixels: int
    """Maximum number of pixels in the results of one request, counting all samples."""
    deadline: float
    """Maximum time from the arrival of a request to its answer, in seconds."""
    max_batch: int
    """Maximum number of requests that are computed together."""
    max_wait: float
    """How long an idle replica waits for further requests to compute together, in seconds."""


@dataclass(frozen=True)
class Waiting:
    """Waiting request, with the future of its answer."""

    model: str
    request: Request
    answer: asyncio.Future[Answer]


def has_left(one: Waiting) -> bool:
    """Return whether the client of a request has left. A request whose deadline has passed still counts as an error."""
    return one.answer.done() and one.request.until > time.monotonic()


class Replica:
    """Replica of Ray Serve. `application` sets the number of replicas."""

    def __init__(self, settings: Settings) -> None:
        """Open the bundle."""
        if ray.util.get_node_ip_address() == LOOPBACK:  # type: ignore[no-untyped-call]
            listen_on_loopback()
        self.settings = settings
        self.pipe = load(settings.bundle, settings.backend, settings.threads)
        name = settings.bundle.stem
        self.instruments = [RayInstruments(name + kind.suffix) for kind in SERVICES]
        pairs = zip(SERVICES, self.instruments, strict=True)
        services = [kind(self.pipe, settings.max_pixels, instruments) for kind, instruments in pairs]
        self.services = {service.name: service for service in services}
        self.waiting: deque[Waiting] = deque()
        self.computing: asyncio.Task[None] | None = None
        self.began: float | None = None
        """Time when the current batch was begun; None if no batch is being computed."""
        self.pipe_is_used = Lock()

    async def check_health(self) -> None:
        """Fail if the replica is broken or stuck. Ray Serve then replaces it. Also keep its gauges alive."""
        for instruments in self.instruments:
            instruments.repeat()
        if self.began is None:
            await self.check()
        elif time.monotonic() - self.began > 2 * self.settings.deadline:
            raise RuntimeError("the current batch has taken longer than twice the deadline")

    async def answer(self, model: str, request: Request, seconds: float) -> Tensors | Failure:
        """Return the output tensors of one request, or the reason why it failed.

        Errors are returned, not raised, because Ray would change their types.
        """
        try:
            return await self._answer(model, request, seconds)
        except Exception as error:
            failure = failure_of(error)
            if failure.http == 500:
                LOG.error("caflow: a request failed", exc_info=error)
            return failure

    async def check(self) -> None:
        """Raise an exception if this replica cannot compute. A replica that is computing needs no check."""
        if self.began is None:
            await asyncio.to_thread(self._check_service)

    async def _answer(self, name: str, request: Request, limit: float) -> Tensors:
        """Compute the output tensors of one request, together with other waiting requests.

        Arguments:
            limit: time limit, in seconds.

        Raises:
            CaflowError, MemoryError: if the request fails.
            TimeoutError: if the time limit is exceeded.
        """
        until = time.monotonic() + limit
        one = Waiting(name, replace(request, until=until), asyncio.get_running_loop().create_future())
        self.waiting.append(one)
        if self.computing is None:
            self.computing = asyncio.create_task(self._compute())
        async with asyncio.timeout(limit):
            answer = await one.answer
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def _compute(self) -> None:
        """Compute batches until no request waits.

        Ray Serve's own batching is not used: it closes a batch while another is being computed, so that batches would
        have few requests.
        """
        try:
            await asyncio.sleep(self.settings.max_wait)
            while self.waiting:
                size = min(len(self.waiting), self.settings.max_batch)
                batch = [one for one in (self.waiting.popleft() for _ in range(size)) if not has_left(one)]
                self.began = time.monotonic()
                answers = await asyncio.to_thread(self._answers, batch)
                for one, answer in zip(batch, answers, strict=True):
                    if not one.answer.done():  # otherwise the deadline has passed, or the client has left
                        one.answer.set_result(answer)
        finally:
            self.began = self.computing = None

    def _answers(self, batch: Sequence[Waiting]) -> list[Any]:
        """Return the answer of each request, or the exception that it caused."""
        answers: dict[int, Any] = {}
        for name, service in self.services.items():
            places = [k for k, one in enumerate(batch) if one.model == name]
            try:
                with self.pipe_is_used:
                    found: Sequence[Any] = service.answer([batch[k].request for k in places])
            except Exception as error:  # requests to the other model still get answers
                found = [error] * len(places)
            answers |= zip(places, found, strict=True)
        return [answers[k] for k in range(len(batch))]

    def _check_service(self) -> None:
        with self.pipe_is_used:
            next(iter(self.services.values())).check()


def listen_on_loopback() -> None:
    """Make gRPC servers of this process listen on the loopback address only.

    Ray Serve opens such a server in each replica, on all addresses, and unpickles what it receives. No option prevents
    that.
    """
    add_insecure_port = Server.add_insecure_port

    def add_port(server: Any, address: str) -> int:
        return int(add_insecure_port(server, address.replace("[::]", LOOPBACK)))

    Server.add_insecure_port = add_port


def application(settings: Settings, replicas: int, cpus: float, gpus: float, max_queue: int) -> serve.Application:
    """Return the Ray Serve application.

    Arguments:
        cpus, gpus: resources of each replica.
        max_queue: maximum number of waiting requests; further requests are rejected.
    """
    deployment: Any = serve.deployment(
        Replica,
        name="caflow",
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        max_ongoing_requests=2 * settings.max_batch,  # one batch is being computed while the next one is collected
        max_queued_requests=max_queue,
        health_check_period_s=HEALTH_CHECKS_S,
        graceful_shutdown_timeout_s=settings.deadline,
        graceful_shutdown_wait_loop_s=SHUTDOWN_STEP_S,
    )
    bound: serve.Application = deployment.bind(settings)
    return bound


@dataclass(frozen=True)
class Replicas:
    """All replicas together, as the `Computing` object of a `Front`."""

    handle: Any

    async def answer(self, model: str, request: Request, seconds: float) -> Tensors:
        """Return the output tensors of one request. Ray Serve chooses a replica with few requests.

        Raises:
            Busy: if too many requests wait.
            Failure: if the request fails, or its replica dies.
        """
        asked = self.handle.answer.remote(model, request, seconds)
        try:
            found: Tensors | Failure = await asked
        except asyncio.CancelledError:
            asked.cancel()
            raise
        except ray.exceptions.RayActorError:
            raise Failure(500, "INTERNAL", "the replica died before it answered: try again") from None
        except BackPressureError:
            raise Busy("too many requests: the queue is full; try again later") from None
        if isinstance(found, Failure):
            raise found
        return found

    async def check(self) -> None:
        """Check that a replica can compute. If the queue is full, replicas are computing.

        Raises:
            Failure: if the replica that was asked died.
            Exception: of any other type, if the replica cannot compute.
        """
        try:
            await self.handle.check.remote()
        except BackPressureError:
            pass
        except ray.exceptions.RayActorError:
            raise Failure(503, "UNAVAILABLE", "the replica died: try again") from None
