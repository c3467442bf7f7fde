"""Worker processes of a server, and the queue of requests that wait for them."""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from caflow_deploy.serving.failures import Busy, Failure
from caflow_deploy.serving.image_requests import ImageAnswer, ImageRequest
from caflow_deploy.serving.loop_thread import Run
from caflow_deploy.serving.request import Request, Tensors
from caflow_deploy.serving.worker import Worker, WorkerFailed
from caflow_deploy.serving.worker_process import CHECK, Reply, WorkerSettings

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Pause before a process that could not start is started again, in seconds. It doubles each time."""
LEAVES_S = 5.0
"""Time within which an image must be finished after its client has left, or after its deadline, in seconds. Then its
process is killed, and another one is started, which takes about as long."""
LOST = Failure(503, "the worker process died before it answered: try again")
LOG = logging.getLogger("caflow.serve")


@dataclass(frozen=True)
class BatchSettings:
    """How requests are queued and computed together."""

    deadline: float
    """Maximum time from the arrival of a request to its answer, in seconds."""
    max_batch: int
    """Maximum number of requests that are computed together."""
    max_wait: float
    """How long an idle worker waits for further requests to compute together, in seconds."""
    max_queue: int
    """Maximum number of requests that wait for a worker."""


@dataclass(eq=False)
class PendingRequest:
    """Request without an answer yet."""

    model: str
    """Name of the model; empty for a request with an image file."""
    request: Request | ImageRequest
    answer: asyncio.Future[Tensors | ImageAnswer | Failure] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def has_left(self) -> bool:
        """Whether the client has left. A request whose deadline has passed still counts as an error."""
        return self.answer.done() and self.request.until > time.monotonic()

    def forget(self) -> None:
        """Free the memory of its input, which limits on memory do not count any more."""
        if isinstance(self.request, ImageRequest):
            self.request = replace(self.request, files={})
        else:
            self.request = Request({}, {}, self.request.until)


class WorkerPool:
    """Worker processes as the backend of an `InferenceApp`. All of its coroutines must run in one event loop."""

    def __init__(self, count: int, worker: WorkerSettings, batches: BatchSettings) -> None:
        self.workers = [Worker(number, worker) for number in range(count)]
        self.batches = batches
        self._queue: deque[PendingRequest] = deque()
        self._arrival = asyncio.Event()
        """Set while requests wait."""
        self._idle: set[int] = set()
        """Numbers of the workers that wait for requests."""
        self._tasks: list[asyncio.Task[None]] = []

    @contextmanager
    def open(self, run: Run) -> Iterator[None]:
        """Run the workers until the block ends. `wait_until_ready` waits for them."""
        try:
            run(self._start())
            yield
        finally:
            run(self._end())

    async def wait_until_ready(self) -> None:
        """Wait until all workers have started.

        Raises:
            WorkerFailed: if one cannot start.
        """
        for error in await asyncio.gather(*self._first_starts):
            if error is not None:
                raise error

    async def answer(self, model: str, request: Request) -> Tensors:
        """Return the output tensors of one request.

        Raises:
            Busy: if too many requests wait.
            Failure: if the request fails, or its worker dies.
        """
        answer = await self._answer(PendingRequest(model, request))
        assert isinstance(answer, dict)
        return answer

    async def answer_image(self, request: ImageRequest) -> ImageAnswer:
        """Return the image file that a request asks for.

        Raises:
            Busy, Failure: as from `answer`.
        """
        answer = await self._answer(PendingRequest("", request))
        assert isinstance(answer, ImageAnswer)
        return answer

    async def check(self) -> None:
        """Check that a worker can compute. Workers that are computing need no check.

        Raises:
            Failure: if no worker runs, or the check fails.
        """
        if not any(worker.is_up for worker in self.workers):
            raise Failure(503, "no worker process is running: try again later")
        if not self._queue and not any(worker.is_busy for worker in self.workers):
            await self.answer(CHECK, Request({}, {}))

    async def _answer(self, pending: PendingRequest) -> Tensors | ImageAnswer:
        if sum(not one.answer.done() for one in self._queue) >= self.batches.max_queue:
            raise Busy("too many requests: the queue is full; try again later")
        self._queue.append(pending)
        self._arrival.set()
        try:
            answer = await pending.answer
        except asyncio.CancelledError:
            pending.forget()
            raise
        if isinstance(answer, Failure):
            raise answer
        return answer

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._first_starts: list[asyncio.Future[WorkerFailed | None]] = [loop.create_future() for _ in self.workers]
        self._tasks = [asyncio.create_task(self._keep_running(worker)) for worker in self.workers]

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        for worker in self.workers:
            worker.kill()
        await asyncio.gather(*self._tasks, *(worker.wait_for_end() for worker in self.workers), return_exceptions=True)

    async def _keep_running(self, worker: Worker) -> None:
        """Start a worker, give it requests, and start it again after it has died. Its first start must succeed."""
        pause = 0.0
        while True:
            try:
                await worker.start()
            except WorkerFailed as error:
                first = self._first_starts[worker.number]
                if not first.done():
                    first.set_result(error)
                    return
                pause = min(2 * pause or FIRST_PAUSE_S, LONGEST_PAUSE_S)
                LOG.error("caflow: worker %d could not start: %s; next try in %g s", worker.number, error, pause)
                await asyncio.sleep(pause)
                continue
            pause = 0.0
            if not (first := self._first_starts[worker.number]).done():
                first.set_result(None)
            try:
                while True:
                    await self._wait_for_requests(worker)
                    await self._compute(worker, self._take(worker))
            except WorkerFailed as error:
                worker.kill()
                LOG.error("caflow: worker %d: %s; starting another process", worker.number, error)

    async def _wait_for_requests(self, worker: Worker) -> None:
        """Wait until requests wait for this worker.

        Raises:
            WorkerFailed: if its process dies meanwhile.
        """
        if not self._queue:
            self._idle.add(worker.number)
            arrival = asyncio.create_task(self._arrival.wait())
            try:
                await asyncio.wait((arrival, worker.next_message), return_when=asyncio.FIRST_COMPLETED)
                await asyncio.wait((worker.next_message,), timeout=self.batches.max_wait)
            finally:
                arrival.cancel()
                self._idle.discard(worker.number)
        if worker.next_message.done():
            raise WorkerFailed("the process died while it had no requests")

    def _take(self, worker: Worker) -> list[PendingRequest]:
        """Take the next batch from the queue. A worker leaves other idle workers their share.

        A request with an image file is a batch of its own, since it may take minutes.
        """
        share = math.ceil(len(self._queue) / (1 + len(self._idle - {worker.number})))
        batch: list[PendingRequest] = []
        while self._queue and len(batch) < min(share, self.batches.max_batch):
            is_image = isinstance(self._queue[0].request, ImageRequest)
            if is_image and batch:
                break
            if not (one := self._queue.popleft()).has_left:
                batch.append(one)
                if is_image:
                    break
        if not self._queue:
            self._arrival.clear()
        return batch

    async def _compute(self, worker: Worker, batch: list[PendingRequest]) -> None:
        """Answer a batch. If its worker dies, the answers are failures.

        Raises:
            WorkerFailed: if the worker dies.
        """
        if not batch:
            return
        answers: list[Tensors | ImageAnswer | Failure] = [LOST] * len(batch)
        try:
            answers = await self._reply(worker, batch)
        finally:
            for one, answer in zip(batch, answers, strict=True):
                if not one.answer.done():  # otherwise the deadline has passed, or the client has left
                    one.answer.set_result(answer)

    async def _reply(self, worker: Worker, batch: list[PendingRequest]) -> Reply:
        if isinstance(image := batch[0].request, ImageRequest):
            return await _while_wanted(worker.compute(image, None), batch[0])
        tensors = [(one.model, one.request) for one in batch if isinstance(one.request, Request)]
        return await worker.compute(tensors, 2 * self.batches.deadline)


async def _while_wanted(computing: Coroutine[Any, Any, Reply], asked: PendingRequest) -> Reply:
    """Return the reply of a worker to a request with an image file.

    Raises:
        WorkerFailed: if the worker dies, or still computes `LEAVES_S` after the client has left, or the deadline.
    """
    reply = asyncio.create_task(computing)
    try:
        await asyncio.wait((reply, asked.answer), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((reply,), timeout=LEAVES_S)
        if not reply.done():
            why = "the client has left" if asked.has_left else "the deadline has passed"
            raise WorkerFailed(f"the process was killed, because {why} of the image that it computed")
        return reply.result()
    finally:
        reply.cancel()
