"""HTTP server of a real model: answers, errors for wrong requests, limits, deadlines, start and end."""

import contextlib
import json
import socket
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import PIL.Image
import pytest
import uvicorn
from front_calls import (
    GOOD,
    PATIENCE_S,
    PIXELS,
    HeldBackend,
    answering,
    backend,
    front_of,
    half_sent,
    http,
    http_good,
    sampler,
    wait_for,
)
from ports import free_port

from caflow_deploy.serving.body_limiter import BodyLimiter
from caflow_deploy.serving.listening import listen
from caflow_deploy.serving.loop_thread import loop_thread
from caflow_deploy.serving.served_models import Sampler
from caflow_deploy.serving.server_runner import ServerRunner
from caflow_runtime.errors import InputError

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


def test_the_answer_is_the_best_sample(backend: HeldBackend, sampler: Sampler) -> None:
    image = np.frombuffer(PIXELS, np.uint8).reshape(1, 1, 2, 3)
    with answering(backend) as server:
        header = {"inputs": [{**GOOD, "parameters": {"binary_data_size": 6}}], "parameters": {"n": 2, "seed": 3}}
        status, answer = http(server, header, PIXELS)
        assert status == 200
        best = sampler.pipe.best_of(image, n=2, seed=3)
        np.testing.assert_array_equal(answer["outputs"][0]["data"], np.ravel(best.images))


def error_of(server: ServerRunner) -> BaseException:
    """Return the error of a server that cannot start."""
    with pytest.raises((InputError, RuntimeError)) as caught, loop_thread() as run, server.open(run):
        pass
    return caught.value


def test_a_server_that_cannot_start_leaves_no_open_port(backend: HeldBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("no HTTP here")

    front = front_of(backend, BodyLimiter(1))
    port = free_port()
    opened = ServerRunner(front, "127.0.0.1", port)
    with listen("127.0.0.1", port):
        in_use = error_of(opened)
    monkeypatch.setattr(uvicorn.Server, "serve", fail)
    failed = error_of(opened)
    listen("127.0.0.1", port).close()
    # Until here, the tracebacks of the errors kept alive all sockets that were not closed.
    assert str(in_use).startswith(f"cannot listen on port {port} of 127.0.0.1: Address already in use")
    assert str(failed) == "no HTTP here"


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


def test_a_request_must_arrive_in_time(backend: HeldBackend) -> None:
    with answering(backend, seconds=0.1) as server:
        with half_sent(server) as connection:
            answer = connection.makefile("rb").read()  # returns once the connection is closed
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"did not arrive within 0.1 s" in answer


def test_the_number_of_arriving_requests_is_limited(backend: HeldBackend) -> None:
    with answering(backend, most=1, seconds=PATIENCE_S) as server:
        with half_sent(server):
            found = wait_for(lambda: http(server, {"inputs": []}), lambda found: found[0] == 503)
            assert found[1] == "too many requests: 1 are arriving already; try again later"
        wait_for(lambda: http_good(server), bool)
        assert server.front.bodies.arriving == server.front.bodies.held == 0


def test_the_size_of_a_request_is_limited(backend: HeldBackend) -> None:
    with answering(backend, largest=1000) as server:
        header = {"inputs": [{**GOOD, "parameters": {"binary_data_size": 1000}}]}
        with contextlib.suppress(ConnectionError, urllib.error.URLError):  # refused before the whole body was sent
            assert http(server, header, bytes(1000)) == (413, "the request must have at most 1000 bytes")
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
            connection.sendall(b"POST /v2/models/model/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.sendall(b"3e9\r\n" + bytes(1001) + b"\r\n")
            assert connection.makefile("rb").read().startswith(b"HTTP/1.1 413 ")
        assert http_good(server)


def test_the_memory_of_waiting_requests_is_limited(backend: HeldBackend) -> None:
    backend.may_answer.clear()
    held = {"inputs": [{**GOOD, "data": list(PIXELS)}], "id": "x" * 200}
    with answering(backend, largest=400, most_held=1) as server, ThreadPoolExecutor() as pool:
        waiting = pool.submit(http, server, held)
        assert backend.asked.wait(PATIENCE_S)
        status, text = http(server, held)
        assert (status, "use all memory for requests" in text) == (503, True)
        backend.may_answer.set()
        assert waiting.result()[0] == 200
        assert http_good(server)


def test_a_request_whose_client_has_left_is_cancelled(backend: HeldBackend) -> None:
    backend.may_answer.clear()
    text = json.dumps({"inputs": [{**GOOD, "data": list(PIXELS)}]}).encode()
    start = f"POST /v2/models/model/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\n\r\n".encode()
    with answering(backend) as server:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
            connection.sendall(start + text)
            assert backend.asked.wait(PATIENCE_S)
        assert backend.left.wait(PATIENCE_S)


def test_a_client_may_set_a_shorter_timeout(backend: HeldBackend) -> None:
    backend.may_answer.clear()
    with answering(backend) as server:
        header = {"inputs": [{**GOOD, "data": list(PIXELS)}], "parameters": {"timeout": 1}}
        assert http(server, header)[0] == 504


@pytest.mark.parametrize(("side", "factor"), [(8, 1), (64, 10)])
def test_the_deadline_of_an_image_grows_with_its_results(backend: HeldBackend, side: int, factor: int) -> None:
    """Ten samples of 256×256 pixels are ten times as many as have one deadline in this server."""
    file = BytesIO()
    PIL.Image.new("L", (side, side)).save(file, "PNG")
    with answering(backend) as server:
        before = time.monotonic()
        address = f"http://127.0.0.1:{server.port}/enlarge"
        with urllib.request.urlopen(address, file.getvalue(), timeout=PATIENCE_S) as answer:
            assert answer.read() == file.getvalue()
        (request,) = backend.images
        assert before <= request.until - factor * PATIENCE_S <= time.monotonic()
