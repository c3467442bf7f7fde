"""HTTP and gRPC servers of a real model: correct answers, errors for wrong requests, and their start and end."""

import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
import uvicorn
from front_calls import (
    GOOD,
    PATIENCE_S,
    PIXELS,
    HeldBackend,
    answering,
    backend,
    call,
    http,
    http_good,
    message,
    sampler,
)
from ports import free_port

from caflow_deploy.serving.body_limiter import BodyLimiter
from caflow_deploy.serving.inference_app import InferenceApp, models_of
from caflow_deploy.serving.listening import listen
from caflow_deploy.serving.loop_thread import loop_thread
from caflow_deploy.serving.server_runner import ServerRunner
from caflow_runtime.errors import InputError
from caflow_runtime.service.served_models import Sampler

__all__ = ["backend", "sampler"]  # fixtures


def got(server: ServerRunner, address: str, method: str = "GET") -> int:
    """Return the status of a request for an address below `v2/models/`. A reply to HEAD must have no body."""
    url = f"http://127.0.0.1:{server.port}/v2/models/{address}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=PATIENCE_S) as answer:
            assert bool(answer.read()) == (method == "GET")
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_http_and_grpc_answer_with_the_best_sample(backend: HeldBackend, sampler: Sampler) -> None:
    image = np.frombuffer(PIXELS, np.uint8).reshape(1, 1, 2, 3)
    with answering(backend) as server:
        header = {"inputs": [{**GOOD, "parameters": {"binary_data_size": 6}}], "parameters": {"n": 2, "seed": 3}}
        status, answer = http(server, header, PIXELS)
        assert status == 200
        best = sampler.pipe.best_of(image, n=2, seed=3)
        np.testing.assert_array_equal(answer["outputs"][0]["data"], np.ravel(best.images))
        assert call(server, message().SerializeToString()) == ("OK", "[1, 4, 8, 3]")


def error_of(addresses: ServerRunner) -> BaseException:
    """Return the error of addresses that cannot be served."""
    with pytest.raises((InputError, RuntimeError)) as caught, loop_thread() as run, addresses.open(run):
        pass
    return caught.value


def test_a_server_that_cannot_start_leaves_no_open_port(backend: HeldBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The port for gRPC may be in use, and HTTP may fail."""

    async def fail(*_: object) -> None:
        raise RuntimeError("no HTTP here")

    front = InferenceApp(models_of("model"), backend, BodyLimiter(1), PATIENCE_S)
    port, grpc_port = free_port(), free_port()
    opened = ServerRunner(front, "127.0.0.1", port, grpc_port)
    with listen("127.0.0.1", grpc_port):
        in_use = error_of(opened)
    monkeypatch.setattr(uvicorn.Server, "serve", fail)
    failed = error_of(opened)
    for free in (port, grpc_port):
        listen("127.0.0.1", free).close()
    # Until here, the tracebacks of the errors kept alive all sockets that were not closed.
    assert str(in_use).startswith(f"cannot listen on port {grpc_port} of 127.0.0.1: the port is in use")
    assert str(failed) == "no HTTP here"


def test_requests_that_arrived_before_the_stop_are_answered(backend: HeldBackend) -> None:
    backend.may_answer.clear()
    found: list[bool] = []
    with answering(backend) as server:
        waiting = threading.Thread(target=lambda: found.append(http_good(server)))
        waiting.start()
        assert backend.asked.wait(PATIENCE_S)
        threading.Timer(0.2, backend.may_answer.set).start()
    waiting.join()
    assert found == [True]


def test_a_wrong_tensor_is_the_fault_of_the_client_over_both_protocols(backend: HeldBackend) -> None:
    """`test_open_inference.py` has all kinds of wrong tensors."""
    wrong, said = {"shape": [6]}, "image: expected UINT8 of shape (B, H, W, 3); got UINT8 of shape (6,)"
    with answering(backend) as server:
        for header, blob in (({"data": list(PIXELS)}, b""), ({"parameters": {"binary_data_size": 6}}, PIXELS)):
            assert http(server, {"inputs": [{**GOOD, **wrong, **header}]}, blob) == (400, said)
        assert call(server, message(**wrong).SerializeToString()) == ("INVALID_ARGUMENT", said)


def test_only_a_version_may_follow_the_name_of_a_model(backend: HeldBackend) -> None:
    with answering(backend) as server:
        for address in ("model", "model/versions/1", "model/ready", "model/versions/1/ready"):
            assert got(server, address) == 200
        for address in ("model/foo/1", "model/foo/1/ready", "model/versions", "model/versions/2"):
            assert got(server, address) == 404
        assert http(server, {"inputs": [{**GOOD, "data": list(PIXELS)}]}, model="model/versions/1")[0] == 200
        assert http(server, {"inputs": [{**GOOD, "data": list(PIXELS)}]}, model="model/foo/1")[0] == 404
        for address, status in (("model", 200), ("model/ready", 200), ("none", 404), ("model/infer", 404)):
            assert got(server, address, "HEAD") == status
