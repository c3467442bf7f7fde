"""Replicas of Ray Serve and their handle, without Ray Serve itself."""

import asyncio
import os
import time
import warnings
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError

from caflow_deploy.cluster import cluster
from caflow_deploy.serving.failures import Failure
from caflow_runtime.service.request import Request

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray Serve uses what later versions of its packages will not have
    from ray.serve.exceptions import BackPressureError

    from caflow_deploy.serving.ray_instruments import RayInstruments
    from caflow_deploy.serving.ray_serve import Replica, Replicas, Waiting, has_left


def replicas_that_raise(error: Exception) -> Replicas:
    async def check() -> None:
        raise error

    return Replicas(SimpleNamespace(check=SimpleNamespace(remote=check)))


def test_replicas_with_a_full_queue_are_ready() -> None:
    asyncio.run(replicas_that_raise(BackPressureError(128, 128)).check())


def test_a_replica_that_died_is_not_ready() -> None:
    with pytest.raises(Failure) as raised:
        asyncio.run(replicas_that_raise(RayActorError()).check())
    assert (raised.value.http, raised.value.grpc) == (503, "UNAVAILABLE")


def test_a_request_whose_deadline_passed_is_not_one_whose_client_left() -> None:
    async def cancelled(until: float) -> Waiting:
        answer = asyncio.get_running_loop().create_future()
        answer.cancel()
        return Waiting("model", Request({}, {}, until), answer)

    assert has_left(asyncio.run(cancelled(time.monotonic() + 3600)))
    assert not has_left(asyncio.run(cancelled(time.monotonic())))


def test_each_health_check_repeats_all_gauges_because_ray_drops_old_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[float, dict[str, str]]] = []
    monkeypatch.setattr("ray.util.metrics.Gauge.set", lambda _, value, tags: sent.append((value, tags)))
    instruments = RayInstruments("model")
    instruments.gauge("psi", "Drift.", []).set(0.1)
    info = instruments.gauge("info", "Model.", ["version"])
    for value in (2, 1):
        info.labels("0.1.0").set(value)
    sent.clear()
    replica = object.__new__(Replica)
    replica.instruments, replica.began = [instruments], None
    monkeypatch.setattr(Replica, "check", lambda _: asyncio.sleep(0))
    asyncio.run(replica.check_health())
    assert sent == [(0.1, {"model": "model"}), (1, {"model": "model", "version": "0.1.0"})]


def test_negative_bits_per_dim_are_counted_as_0_because_ray_drops_them(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[float] = []
    monkeypatch.setattr("ray.util.metrics.Histogram.observe", lambda _, value, __: sent.append(value))
    bits = RayInstruments("model").histogram("bits", "Bits/dim.", [], [-1.0, 1.0])
    for value in (-0.5, 0.5):
        bits.observe(value)
    assert sent == [0.0, 0.5]


@pytest.mark.parametrize(("given", "used"), [(None, "0"), ("5", "5")])
def test_replicas_have_the_priority_of_the_command(
    given: str | None, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {} if given is None else {cluster.NICENESS: given})
    ray = SimpleNamespace(init=lambda *_, **__: None, nodes=list, shutdown=lambda: None)
    monkeypatch.setattr(cluster, "_import_ray", lambda: ray)
    with cluster.cluster(None):
        assert os.environ[cluster.NICENESS] == used
