"""What computes behind the addresses of `caflow serve`: replicas of Ray Serve, which hold a pipeline each."""

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
from caflow_deploy.serving.open_inference import Busy, Failure, failure_of
from caflow_deploy.serving.ray_instruments import RayInstruments
from caflow_runtime.backends.select import BackendName
from caflow_runtime.pipeline.pipeline import load
from caflow_runtime.service.request import Answer, Request, Tensors
from caflow_runtime.service.service import SERVICES

SHUTDOWN_STEP_S = 0.1
LOG = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class Settings:
    """Of each replica."""

    bundle: Path
    backend: BackendName
    threads: int
    max_pixels: int
    """Of the results of one request, all samples counted."""
    deadline: float
    """Seconds that a request may take."""
    max_batch: int
    """Requests that are computed together."""
    max_wait: float
    """Seconds that a request waits for others, where nothing is computed that it has to wait for."""


@dataclass(frozen=True)
class Waiting:
    """A request that came, and its answer to be."""

    model: str
    request: Request
    answer: asyncio.Future[Answer]


class Replica:
    """What Ray Serve runs, as often as it is told; `application` makes it."""

    def __init__(self, settings: Settings) -> None:
        """Open the bundle."""
        if ray.util.get_node_ip_address() == LOOPBACK:  # type: ignore[no-untyped-call]
            listen_on_loopback()
        self.settings = settings
        self.pipe = load(settings.bundle, settings.backend, settings.threads)
        name = settings.bundle.stem
        services = [kind(self.pipe, settings.max_pixels, RayInstruments(name + kind.suffix)) for kind in SERVICES]
        self.services = {service.name: service for service in services}
        self.waiting: deque[Waiting] = deque()
        self.computing: asyncio.Task[None] | None = None
        self.began: float | None = None
        """When the batch that is computed was."""
        self.pipe_is_used = Lock()

    async def check_health(self) -> None:
        """Ray Serve replaces a replica for which this fails."""
        if self.began is None:
            await self.check()
        elif time.monotonic() - self.began > 2 * self.settings.deadline:
            raise RuntimeError("a batch has been computed for longer than twice the deadline")

    async def answer(self, model: str, request: Request, seconds: float) -> Tensors | Failure:
        """The tensors of one request, or why there are none: Ray would change the type of what is raised."""
        try:
            return await self._answer(model, request, seconds)
        except Exception as error:
            failure = failure_of(error)
            if failure.http == 500:
                LOG.error("caflow: a request failed", exc_info=error)
            return failure

    async def check(self) -> None:
        """Whether this replica computes; while it does, that is known."""
        if self.began is None:
            await asyncio.to_thread(self._check_service)

    async def _answer(self, name: str, request: Request, limit: float) -> Tensors:
        """The tensors of one request, computed with those of others.

        Raises:
            CaflowError, MemoryError, TimeoutError
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
        """Batch after batch, until nobody waits. (Ray Serve's own batches are closed while another is computed, so
        that each would hold few requests.)
        """
        try:
            await asyncio.sleep(self.settings.max_wait)
            while self.waiting:
                size = min(len(self.waiting), self.settings.max_batch)
                batch = [one for one in (self.waiting.popleft() for _ in range(size)) if not one.answer.done()]
                self.began = time.monotonic()
                answers = await asyncio.to_thread(self._answers, batch)
                for one, answer in zip(batch, answers, strict=True):
                    if not one.answer.done():  # else it is late, or its client has gone
                        one.answer.set_result(answer)
        finally:
            self.began = self.computing = None

    def _answers(self, batch: Sequence[Waiting]) -> list[Any]:
        """Or what was wrong, for each."""
        answers: dict[int, Any] = {}
        for name, service in self.services.items():
            places = [k for k, one in enumerate(batch) if one.model == name]
            try:
                with self.pipe_is_used:
                    found: Sequence[Any] = service.answer([batch[k].request for k in places])
            except Exception as error:  # others still want theirs
                found = [error] * len(places)
            answers |= zip(places, found, strict=True)
        return [answers[k] for k in range(len(batch))]

    def _check_service(self) -> None:
        with self.pipe_is_used:
            next(iter(self.services.values())).check()


def listen_on_loopback() -> None:
    """Have gRPC servers of this process listen on the loopback address alone.

    Ray Serve has one in each replica, on all addresses, for requests that are pickled; it has no option for it.
    """
    add_insecure_port = Server.add_insecure_port

    def add_port(server: Any, address: str) -> int:
        return int(add_insecure_port(server, address.replace("[::]", LOOPBACK)))

    Server.add_insecure_port = add_port


def application(settings: Settings, replicas: int, cpus: float, gpus: float, max_queue: int) -> serve.Application:
    """What `serve.run` runs.

    Arguments:
        cpus, gpus: of each replica.
        max_queue: requests that wait; more are refused.
    """
    deployment: Any = serve.deployment(
        Replica,
        name="caflow",
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        max_ongoing_requests=2 * settings.max_batch,  # one batch is computed, the next one gathers
        max_queued_requests=max_queue,
        graceful_shutdown_timeout_s=settings.deadline,
        graceful_shutdown_wait_loop_s=SHUTDOWN_STEP_S,
    )
    bound: serve.Application = deployment.bind(settings)
    return bound


@dataclass(frozen=True)
class Replicas:
    """All of them, as an address of `Front` asks them."""

    handle: Any

    async def answer(self, model: str, request: Request, seconds: float) -> Tensors:
        """The tensors of one request, from the replica that has the least to do.

        Raises:
            Busy: if too many requests wait.
            Failure
        """
        asked = self.handle.answer.remote(model, request, seconds)
        try:
            found: Tensors | Failure = await asked
        except asyncio.CancelledError:
            asked.cancel()
            raise
        except ray.exceptions.RayActorError:
            raise Failure(500, "INTERNAL", "the replica died before it had answered: try again") from None
        except BackPressureError:
            raise Busy("as many requests wait as may: try again later") from None
        if isinstance(found, Failure):
            raise found
        return found

    async def check(self) -> None:
        """Whether a replica computes.

        Raises:
            Exception: if not.
        """
        await self.handle.check.remote()
