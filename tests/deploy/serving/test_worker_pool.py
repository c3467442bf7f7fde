"""The queue and the worker processes of a server: real processes that are stopped, killed and replaced."""

import asyncio
import gc
import math
import multiprocessing
import os
import shutil
import signal
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray
from tiny import photograph

from caflow_deploy.serving import worker_pool, worker_process
from caflow_deploy.serving.failures import Busy, Failure
from caflow_deploy.serving.image_requests import ImageModels
from caflow_deploy.serving.loop_thread import Run, loop_thread
from caflow_deploy.serving.model_instruments import Prometheus
from caflow_deploy.serving.request import Request
from caflow_deploy.serving.worker_pool import BatchSettings, WorkerPool
from caflow_deploy.serving.worker_process import WorkerSettings, backend_of
from caflow_runtime.backends.gpu import Gpu
from caflow_runtime.errors import BackendError, InputError
from caflow_runtime.pipeline.pipeline import load

PATIENCE_S = 300
BATCHES = BatchSettings(deadline=PATIENCE_S, max_batch=1, max_wait=0, max_queue=1)


@pytest.fixture
def image(photographs: Path) -> NDArray[np.uint8]:
    return photograph(photographs, 0, 8, 12)[None]


@contextmanager
def opened(
    bundle: Path, count: int = 1, batches: BatchSettings = BATCHES, metrics: Path | None = None
) -> Iterator[tuple[WorkerPool, Run]]:
    """Yield a pool whose workers have started, and a function that runs coroutines beside it."""
    settings = WorkerSettings(bundle, "cpu", 1, 2**20, 2**20, metrics)
    pool = WorkerPool(count, settings, batches)
    with loop_thread() as run, pool.open(run):
        run(pool.wait_until_ready())
        yield pool, lambda work: run(asyncio.wait_for(work, PATIENCE_S))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def workers() -> list[int | None]:
    """Return the ids of the worker processes that run."""
    return [process.pid for process in multiprocessing.active_children()]


def send(sent: signal.Signals) -> None:
    """Send a signal to the only worker process."""
    (worker,) = workers()
    assert worker is not None
    os.kill(worker, sent)


def begin(pool: WorkerPool, image: NDArray[np.uint8], **parameters: Any) -> "asyncio.Task[Any]":
    request = Request({"image": image}, {"n": 1, **parameters}, time.monotonic() + PATIENCE_S)
    return asyncio.create_task(pool.answer("model", request))


async def held(pool: WorkerPool, image: NDArray[np.uint8]) -> "asyncio.Task[Any]":
    """Stop the first worker, and return a request that it has received."""
    send(signal.SIGSTOP)
    first = begin(pool, image)
    await until(lambda: pool.workers[0].is_busy)
    return first


async def queued(pool: WorkerPool, image: NDArray[np.uint8]) -> "asyncio.Task[Any]":
    """Return a request that waits in the queue behind others."""
    task = begin(pool, image)
    await asyncio.sleep(0)  # until the task waits for its answer
    return task


def values(metrics: Path) -> dict[tuple[str, ...], float]:
    """Return the values of all metrics that workers wrote to a folder, by name and values of labels."""
    families = Prometheus(metrics).registry.collect()
    return {(one.name, *sorted(one.labels.values())): one.value for family in families for one in family.samples}


def test_answers_are_those_of_the_pipeline(calibrated: Path, image: NDArray[np.uint8]) -> None:
    async def ask(pool: WorkerPool) -> list[Any]:
        return [await begin(pool, image, n=3, seed=seed) for seed in range(4)]

    with opened(calibrated, 2) as (pool, run), load(calibrated, "cpu", 1) as pipe:
        for seed, answer in enumerate(run(ask(pool))):
            best = pipe.best_of(image, n=3, seed=seed)
            np.testing.assert_array_equal(answer["image"], best.images)
            np.testing.assert_array_equal(answer["log_likelihood"][:, 0], best.log_likelihood)


def test_a_full_queue_refuses_requests_until_there_is_room(calibrated: Path, image: NDArray[np.uint8]) -> None:
    async def fill(pool: WorkerPool) -> None:
        first, second = await held(pool, image), await queued(pool, image)
        with pytest.raises(Busy, match="the queue is full; try again later"):
            await begin(pool, image)
        await pool.check()  # a worker that computes needs no check
        second.cancel()  # its client leaves
        await asyncio.wait([second])
        third = begin(pool, image)
        send(signal.SIGCONT)
        await asyncio.gather(first, third)

    with opened(calibrated) as (pool, run):
        run(fill(pool))


def test_a_request_is_computed_unless_its_client_has_left(
    calibrated: Path, image: NDArray[np.uint8], tmp_path: Path
) -> None:
    """A request whose deadline has passed is not computed either, but counts as an error."""

    async def leave(pool: WorkerPool) -> None:
        first, images = await held(pool, image), [image.copy(), image.copy()]
        kept = [weakref.ref(one) for one in images]
        left = await queued(pool, images.pop())
        late = asyncio.create_task(pool.answer("model", Request({"image": images.pop()}, {"n": 1}, time.monotonic())))
        await asyncio.sleep(0)
        for task in (left, late):
            task.cancel()
        await asyncio.wait([left, late])
        del left, late, task  # their tracebacks hold the requests
        gc.collect()
        assert [one() for one in kept] == [None, None]  # the memory of their images is free
        last = await queued(pool, image)
        send(signal.SIGCONT)
        await asyncio.gather(first, last)

    with opened(calibrated, 1, replace(BATCHES, max_queue=8), tmp_path) as (pool, run):
        run(leave(pool))
    found = values(tmp_path)
    assert found["caflow_requests_total", "model", "unjudged"] == 2
    assert found["caflow_requests_total", "error", "model"] == 1


def test_a_killed_worker_fails_only_what_it_computed(calibrated: Path, image: NDArray[np.uint8]) -> None:
    async def kill(pool: WorkerPool) -> None:
        first, second = await held(pool, image), await queued(pool, image)
        before = workers()
        send(signal.SIGKILL)
        with pytest.raises(Failure) as lost:
            await first
        assert lost.value.status == 503
        assert lost.value.text == "the worker process died before it answered: try again"
        assert (await second)["image"].shape == (1, 32, 48, 3)
        assert workers() != before

    with opened(calibrated) as (pool, run):
        run(kill(pool))


def test_a_worker_that_is_stuck_is_killed(calibrated: Path, image: NDArray[np.uint8]) -> None:
    async def wait(pool: WorkerPool) -> None:
        pool.batches = replace(BATCHES, deadline=0.01)
        send(signal.SIGSTOP)
        with pytest.raises(Failure, match="died before it answered"):
            await begin(pool, image)
        pool.batches = BATCHES
        await begin(pool, image)

    with opened(calibrated) as (pool, run):
        run(wait(pool))


def test_a_worker_that_dies_while_it_is_idle_is_replaced(
    calibrated: Path, image: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is not ready meanwhile. If the new process cannot start, others are started until one can."""
    monkeypatch.setattr(worker_pool, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(worker_pool, "LONGEST_PAUSE_S", 0.02)
    bundle = Path(shutil.copytree(calibrated, tmp_path / "model.caflow"))

    async def die(pool: WorkerPool) -> None:
        await pool.check()
        bundle.rename(tmp_path / "away")
        before = workers()
        send(signal.SIGKILL)
        await until(lambda: not pool.workers[0].is_up and workers() not in ([], before))
        failed = workers()
        await until(lambda: workers() not in ([], failed))
        with pytest.raises(Failure, match="no worker process is running") as refused:
            await pool.check()
        assert refused.value.status == 503
        (tmp_path / "away").rename(bundle)
        await begin(pool, image)
        await pool.check()

    with opened(bundle) as (pool, run):
        run(die(pool))


def test_metrics_of_two_workers_add_up(calibrated: Path, image: NDArray[np.uint8], tmp_path: Path) -> None:
    async def ask(pool: WorkerPool) -> None:
        """Ask for two answers while both workers are idle, so that each of them computes one."""
        await asyncio.gather(begin(pool, image, n=2), begin(pool, image, n=2))

    with opened(calibrated, 2, replace(BATCHES, max_queue=8, max_batch=8), tmp_path) as (pool, run):
        run(ask(pool))
    found = values(tmp_path)
    assert found["caflow_requests_total", "model", "unjudged"] == 2
    assert found["caflow_samples_total", "", "accepted", "model"] == 4
    assert found["caflow_sample_bits_per_dim_count", "model"] == 4
    assert found["caflow_stage_seconds_count", "model", "sample"] == 2
    for worker in ("0", "1"):
        assert found["caflow_drift_distance", worker, "model"] > 0
        assert abs(found["caflow_canary_difference", worker, "model-score"]) < 0.01


@pytest.mark.parametrize(("error", "checks"), [(InputError("wrong"), 0), (BackendError("lost"), 1), (KeyError(), 1)])
def test_a_worker_checks_itself_after_errors_that_may_be_its_own(error: Exception, checks: int) -> None:
    checked: list[None] = []
    worker: Any = SimpleNamespace(answers=lambda _: [error], check=lambda: checked.append(None))
    here, there = Pipe()
    here.send([("model", Request({}, {}))])
    assert worker_process._answer_next(there, worker)
    (failure,) = here.recv()
    assert isinstance(failure, Failure)
    assert len(checked) == checks
    here.close()
    assert not worker_process._answer_next(there, worker)


@pytest.mark.parametrize(
    ("backend", "gpus", "used"),
    [
        ("cuda", 2, ["cuda:0", "cuda:1", "cuda:0"]),
        ("auto", 2, ["cuda:0", "cuda:1", "cuda:0"]),
        ("tensorrt", 2, ["tensorrt:0", "tensorrt:1", "tensorrt:0"]),
        ("cuda:1", 2, ["cuda:1"] * 3),
        ("cuda", 1, ["cuda"] * 3),
        ("auto", 0, ["auto"] * 3),
        ("cpu", 2, ["cpu"] * 3),
    ],
)
def test_workers_take_gpus_in_turn(backend: str, gpus: int, used: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "is_installed", lambda _: True)
    monkeypatch.setattr(worker_process, "has_gpu", lambda: gpus > 0)
    monkeypatch.setattr(worker_process, "find_gpus", lambda: [Gpu("a GPU", "9.0")] * gpus)
    assert [backend_of(backend, number) for number in range(3)] == used


def png(side: int) -> bytes:
    """Return a black image as a file."""
    file = BytesIO()
    PIL.Image.new("RGB", (side, side)).save(file, "PNG")
    return file.getvalue()


def test_a_worker_whose_client_has_left_is_replaced(calibrated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image may take minutes, which nobody would wait for."""
    monkeypatch.setattr(worker_pool, "LEAVES_S", 0.1)
    large, dot = (png(side) for side in (900, 8))
    models = ImageModels.of(calibrated, True, 2**20)
    request = replace(models.request("enlarge", {"image": large}, {"n": "1"}), until=math.inf)
    with opened(calibrated) as (pool, run):
        (before,) = workers()

        async def leave() -> None:
            drawing = asyncio.create_task(pool.answer_image(request))
            await until(lambda: pool.workers[0].is_busy)
            drawing.cancel()
            await until(lambda: before not in workers() and pool.workers[0].is_up)

        run(leave())
        small = replace(request, files={"image": dot})
        assert run(pool.answer_image(small)).headers["Caflow-Model"] == "model"
