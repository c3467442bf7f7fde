"""HTTP and gRPC servers of a real model: correct answers, and limits for slow, large and wrong requests."""

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import uvicorn
from ports import free_port
from tritonclient.grpc import service_pb2

from caflow_deploy.cluster.cluster import listen
from caflow_deploy.serving import addresses, bodies, failures
from caflow_deploy.serving import open_inference as protocol
from caflow_deploy.serving.addresses import Addresses
from caflow_deploy.serving.bodies import Bodies
from caflow_deploy.serving.front import GRPC_SERVICE, Front, models_of
from caflow_runtime.bundle.builtin import find_bundle
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.pipeline import load
from caflow_runtime.service.request import Request, Tensors
from caflow_runtime.service.served_models import Sampler

PIXELS = bytes(range(6))
GOOD = {"name": "image", "shape": [1, 1, 2, 3], "datatype": "UINT8"}
PATIENCE_S = 120
"""Timeout in seconds, so that an answer that never comes fails the test instead of blocking it."""
CALL = f"/{GRPC_SERVICE}/ModelInfer"


@dataclass
class Computing:
    """Sampler that answers only while `may_answer` is set."""

    sampler: Sampler
    may_answer: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)

    async def answer(self, model: str, request: Request, seconds: float) -> Tensors:
        self.asked.set()
        try:
            while not self.may_answer.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.left.set()
            raise
        (answer,) = await asyncio.to_thread(self.sampler.answer, [request])
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def check(self) -> None:
        await asyncio.to_thread(self.sampler.check)


@pytest.fixture(scope="module")
def sampler() -> Iterator[Sampler]:
    with load(find_bundle(Path("x4-photo")), threads=1) as pipe:
        yield Sampler(pipe)


@pytest.fixture
def computing(sampler: Sampler) -> Computing:
    made = Computing(sampler)
    made.may_answer.set()
    return made


@contextmanager
def answering(computing: Computing, deadline: float = PATIENCE_S, **limits: Any) -> Iterator[Addresses]:
    """Serve HTTP and gRPC until the block ends."""
    front = Front(models_of("model"), computing, Bodies(**{"largest": 2**20, **limits}), deadline)
    opened = Addresses(front, "127.0.0.1", free_port(), free_port())
    with opened.open():
        yield opened


def http(server: Addresses, header: dict[str, Any], blob: bytes = b"", model: str = "model") -> tuple[int, Any]:
    """Send a request of JSON, or of JSON and a binary tensor; return the status and the JSON or error text."""
    text = json.dumps(header).encode()
    headers = {protocol.HEADER_LENGTH: str(len(text))} if blob else {}
    url = f"http://127.0.0.1:{server.port}/v2/models/{model}/infer"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, text + blob, headers), timeout=PATIENCE_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["error"]


def http_good(server: Addresses) -> bool:
    status, answer = http(server, {"inputs": [{**GOOD, "data": list(PIXELS)}], "parameters": {"n": 1}})
    return status == 200 and answer["outputs"][0]["shape"] == [1, 4, 8, 3]


def message(**given: Any) -> Any:
    made = service_pb2.ModelInferRequest(model_name="model", raw_input_contents=[given.pop("raw", PIXELS)])
    made.inputs.add(**{**GOOD, **given})
    made.parameters["n"].int64_param = 1
    return made


def call(server: Addresses, request: bytes) -> tuple[str, str]:
    """Return the code and the details of a gRPC call, or OK and the shape of the first output."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        try:
            reply = channel.unary_unary(CALL)(request, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return "OK", str(service_pb2.ModelInferResponse.FromString(reply).outputs[0].shape)


def got(server: Addresses, address: str) -> int:
    """Return the status of a GET request for an address below `v2/models/`."""
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{server.port}/v2/models/{address}", timeout=PATIENCE_S
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def half_sent(server: Addresses) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), PATIENCE_S)
    connection.sendall(b"POST /v2/models/model/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    return connection


@contextmanager
def half_called(server: Addresses) -> Iterator[Any]:
    """Yield a gRPC call whose message is never sent."""
    ended = threading.Event()

    def nothing() -> Iterator[bytes]:
        ended.wait(PATIENCE_S)
        yield from ()

    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        try:
            yield channel.stream_unary(CALL).future(nothing(), timeout=PATIENCE_S)
        finally:
            ended.set()


def test_good_requests_are_answered(computing: Computing, sampler: Sampler) -> None:
    image = np.frombuffer(PIXELS, np.uint8).reshape(1, 1, 2, 3)
    with answering(computing) as server:
        header = {"inputs": [{**GOOD, "parameters": {"binary_data_size": 6}}], "parameters": {"n": 2, "seed": 3}}
        status, answer = http(server, header, PIXELS)
        assert status == 200
        best = sampler.pipe.best_of(image, n=2, seed=3)
        np.testing.assert_array_equal(answer["outputs"][0]["data"], np.ravel(best.images))
        assert call(server, message().SerializeToString()) == ("OK", "[1, 4, 8, 3]")


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_addresses_are_shown_as_urls(computing: Computing, host: str, shown: str) -> None:
    front = Front(models_of("model"), computing, Bodies(1), PATIENCE_S)
    assert Addresses(front, host, 8000, None).text == f"http://{shown}:8000"
    assert Addresses(front, host, 8000, 8001).text == f"http://{shown}:8000 and grpc://{shown}:8001"


def error_of(addresses: Addresses) -> BaseException:
    """Return the error of addresses that cannot be served."""
    with pytest.raises((InputError, RuntimeError)) as caught, addresses.open():
        pass
    return caught.value


def test_a_server_that_cannot_start_leaves_no_open_port(computing: Computing, monkeypatch: pytest.MonkeyPatch) -> None:
    """The port for gRPC may be in use, and HTTP may fail."""

    async def fail(*_: object) -> None:
        raise RuntimeError("no HTTP here")

    front = Front(models_of("model"), computing, Bodies(1), PATIENCE_S)
    port, grpc_port = free_port(), free_port()
    opened = Addresses(front, "127.0.0.1", port, grpc_port)
    with listen("127.0.0.1", grpc_port):
        in_use = error_of(opened)
    monkeypatch.setattr(uvicorn.Server, "serve", fail)
    failed = error_of(opened)
    for free in (port, grpc_port):
        listen("127.0.0.1", free).close()
    # Until here, the tracebacks of the errors kept alive all sockets that were not closed.
    assert str(in_use).startswith(f"cannot listen on port {grpc_port} of 127.0.0.1: the port is in use")
    assert str(failed) == "no HTTP here"


def test_requests_that_are_half_sent_block_nobody(computing: Computing) -> None:
    with answering(computing, seconds=PATIENCE_S) as server, ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(half_sent(server))
        calls = [stack.enter_context(half_called(server)) for _ in range(20)]  # gRPC cancels calls without a reference
        assert http_good(server)
        assert call(server, message().SerializeToString())[0] == "OK"
        assert not any(called.done() for called in calls)


def test_a_request_must_arrive_in_time(computing: Computing) -> None:
    with answering(computing, seconds=0.1) as server:
        with half_sent(server) as connection:
            answer = connection.makefile("rb").read()  # returns once the connection is closed
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"did not arrive within 0.1 s" in answer
        with half_called(server) as called:
            assert called.code().name == "DEADLINE_EXCEEDED"
            assert "did not arrive within 0.1 s" in called.details()


@pytest.mark.parametrize("earlier", [0, 1])
@pytest.mark.parametrize("sent", [b"", b"POST /v2/models"])
def test_headers_must_arrive_in_time(
    computing: Computing, monkeypatch: pytest.MonkeyPatch, sent: bytes, earlier: int
) -> None:
    """The timeout applies to the first request of a connection and to later ones."""
    monkeypatch.setattr(addresses, "HEADERS_S", 0.1)
    monkeypatch.setattr(addresses, "IDLE_S", 1)
    with answering(computing) as server, socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
        answers = connection.makefile("rb")
        for _ in range(earlier):
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            while answers.readline() != b"\r\n":
                pass
            assert answers.read(len(b'{"live":true}')) == b'{"live":true}'
        connection.sendall(sent)
        assert answers.read() == b""  # the connection was closed


def test_bodies_that_arrive_are_counted(computing: Computing) -> None:
    with answering(computing, most=1, seconds=PATIENCE_S) as server:
        with half_sent(server):
            found = wait_for(lambda: http(server, {"inputs": []}), lambda found: found[0] == 503)
            assert found[1] == "too many requests: 1 are arriving already; try again later"
            assert call(server, b"")[0] == "RESOURCE_EXHAUSTED"
        wait_for(lambda: http_good(server), bool)
        assert server.front.bodies.arriving == server.front.bodies.held == 0


def wait_for(find: Any, is_found: Any) -> Any:
    """Return the result of `find` once `is_found` accepts it. The server needs time to notice other connections."""
    ended = threading.Event()
    timer = threading.Timer(PATIENCE_S, ended.set)
    timer.start()
    try:
        while not is_found(found := find()):
            assert not ended.wait(0.01), found
        return found
    finally:
        timer.cancel()


def test_bodies_are_bounded(computing: Computing) -> None:
    with answering(computing, largest=1000) as server:
        header = {"inputs": [{**GOOD, "parameters": {"binary_data_size": 1000}}]}
        with contextlib.suppress(ConnectionError, urllib.error.URLError):  # refused before the whole body was sent
            assert http(server, header, bytes(1000)) == (413, "the request must have at most 1000 bytes")
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
            connection.sendall(b"POST /v2/models/model/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.sendall(b"3e9\r\n" + bytes(1001) + b"\r\n")
            assert connection.makefile("rb").read().startswith(b"HTTP/1.1 413 ")
        assert call(server, message(raw=bytes(1001)).SerializeToString())[0] == "RESOURCE_EXHAUSTED"  # by gRPC itself
        assert http_good(server)


def test_bodies_that_wait_are_bounded_together(computing: Computing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MOST_HELD", 1)
    computing.may_answer.clear()
    held = {"inputs": [{**GOOD, "data": list(PIXELS)}], "id": "x" * 200}
    with answering(computing, largest=400) as server:
        waiting = threading.Thread(target=http, args=(server, held))
        waiting.start()
        assert computing.asked.wait(PATIENCE_S)
        status, text = http(server, held)
        assert (status, "use all memory for requests" in text) == (503, True)
        computing.may_answer.set()
        waiting.join()
        assert http_good(server)


def test_grpc_messages_that_arrive_count_as_the_largest(computing: Computing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MOST_HELD", 3)
    monkeypatch.setattr(bodies, "MOST_MESSAGES", 2)
    with answering(computing, seconds=PATIENCE_S) as server, ExitStack() as stack:
        held = server.front.bodies
        calls = [stack.enter_context(half_called(server)) for _ in range(20)]
        wait_for(lambda: held.arriving, lambda count: count == 20)
        assert held.held == 2 * held.largest
        assert http_good(server)
        for called in calls:
            called.cancel()
        wait_for(lambda: held.arriving, lambda count: count == 0)
        assert held.held == 0


def test_grpc_messages_that_find_no_memory_are_refused(computing: Computing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MOST_HELD", 1)
    computing.may_answer.clear()
    with answering(computing) as server, ThreadPoolExecutor() as pool:
        waiting = pool.submit(http_good, server)
        assert computing.asked.wait(PATIENCE_S)
        code, text = call(server, message().SerializeToString())
        assert (code, "use all memory for requests" in text) == ("RESOURCE_EXHAUSTED", True)
        computing.may_answer.set()
        assert waiting.result()
        assert call(server, message().SerializeToString())[0] == "OK"


def test_many_small_grpc_messages_at_once_are_all_answered(computing: Computing) -> None:
    """They wait for their turns to be read. None is refused, although each counts as the largest meanwhile."""
    with answering(computing) as server, grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        ask = channel.unary_unary(CALL)
        request = message().SerializeToString()
        calls = [ask.future(request, timeout=PATIENCE_S) for _ in range(100)]
        assert [called.code().name for called in calls] == ["OK"] * 100


def test_what_nobody_waits_for_is_not_computed(computing: Computing) -> None:
    computing.may_answer.clear()
    text = json.dumps({"inputs": [{**GOOD, "data": list(PIXELS)}]}).encode()
    start = f"POST /v2/models/model/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\n\r\n".encode()
    with answering(computing) as server:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
            connection.sendall(start + text)
            assert computing.asked.wait(PATIENCE_S)
        assert computing.left.wait(PATIENCE_S)
        computing.left.clear()
        computing.asked.clear()
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            called = channel.unary_unary(CALL).future(message().SerializeToString())
            assert computing.asked.wait(PATIENCE_S)
            called.cancel()
            assert computing.left.wait(PATIENCE_S)


def test_reading_is_within_the_deadline(computing: Computing) -> None:
    with answering(computing, deadline=1e-9) as server:
        assert http(server, {"inputs": [{**GOOD, "data": list(PIXELS)}]})[0] == 504
        assert call(server, message().SerializeToString())[0] == "DEADLINE_EXCEEDED"


def test_a_client_may_wait_for_less(computing: Computing) -> None:
    computing.may_answer.clear()
    request = message()
    request.parameters["timeout"].int64_param = 1
    with answering(computing) as server:
        header = {"inputs": [{**GOOD, "data": list(PIXELS)}], "parameters": {"timeout": 1}}
        assert http(server, header)[0] == 504
        assert call(server, request.SerializeToString())[0] == "DEADLINE_EXCEEDED"


def test_what_arrived_before_the_end_is_answered(computing: Computing) -> None:
    computing.may_answer.clear()
    found: list[bool] = []
    with answering(computing) as server:
        waiting = threading.Thread(target=lambda: found.append(http_good(server)))
        waiting.start()
        assert computing.asked.wait(PATIENCE_S)
        threading.Timer(0.2, computing.may_answer.set).start()
    waiting.join()
    assert found == [True]


def serve_and_interrupt_the_end(computing: Computing, pool: ThreadPoolExecutor) -> None:
    """Stop serving while a request waits for its answer, and interrupt that with Ctrl-C."""
    with answering(computing) as server:
        pool.submit(http_good, server)
        assert computing.asked.wait(PATIENCE_S)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_an_end_that_is_interrupted_leaves_no_tasks(computing: Computing, caplog: pytest.LogCaptureFixture) -> None:
    """asyncio logs each pending task that is destroyed."""
    computing.may_answer.clear()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores SIGINT
    try:
        with ThreadPoolExecutor() as pool, pytest.raises(KeyboardInterrupt):
            serve_and_interrupt_the_end(computing, pool)
    finally:
        signal.signal(signal.SIGINT, before)
    gc.collect()
    assert [text for text in caplog.messages if "was destroyed" in text] == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"shape": [0, 2**62, 2**62, 3]}, "image: all sizes of the shape must be at least 1; got (0, 46116"),
        ({"shape": [1, 2**62, 2**62, 3]}, f"image: expected {3 * 2**124} bytes for shape"),
        ({"shape": [-1, 1, 2, 3]}, "image: all sizes of the shape must be at least 1; got (-1, 1, 2, 3)"),
        ({"shape": [1, 1, 3, 2]}, "image[0]: expected an array (H, W, 3) of uint8 RGB"),
        ({"shape": [6]}, "image: expected UINT8 of shape (B, H, W, 3); got UINT8 of shape (6,)"),
        ({"shape": []}, "image: expected UINT8 of shape (B, H, W, 3); got UINT8 of shape ()"),
        ({"shape": [1, 1, 3, 3]}, "image: expected 9 bytes for shape (1, 1, 3, 3); got 6"),
        ({"datatype": "FP32"}, "image: expected UINT8 of shape (B, H, W, 3); got FP32 of shape (1, 1, 2, 3)"),
        ({"name": "picture"}, "expected image; got picture"),
    ],
)
def test_wrong_tensors_are_the_fault_of_the_client(computing: Computing, given: dict[str, Any], said: str) -> None:
    with answering(computing) as server:
        binary = {**GOOD, **given, "parameters": {"binary_data_size": 6}}
        for header, blob in (({**GOOD, **given, "data": list(PIXELS)}, b""), (binary, PIXELS)):
            status, text = http(server, {"inputs": [header]}, blob)
            assert status == 400
            assert said in text
        code, text = call(server, message(**given).SerializeToString())
        assert code == "INVALID_ARGUMENT"
        assert said in text


def test_only_a_version_may_follow_the_name_of_a_model(computing: Computing) -> None:
    with answering(computing) as server:
        for address in ("model", "model/versions/1", "model/ready", "model/versions/1/ready"):
            assert got(server, address) == 200
        for address in ("model/foo/1", "model/foo/1/ready", "model/versions", "model/versions/2"):
            assert got(server, address) == 404
        assert http(server, {"inputs": [{**GOOD, "data": list(PIXELS)}]}, model="model/versions/1")[0] == 200
        assert http(server, {"inputs": [{**GOOD, "data": list(PIXELS)}]}, model="model/foo/1")[0] == 404


@pytest.mark.parametrize("size", [2.5, "2", None, True, [2], 2**70])
def test_sizes_are_integers(computing: Computing, size: Any) -> None:
    with answering(computing) as server:
        status, text = http(server, {"inputs": [{**GOOD, "shape": [1, 1, size, 3], "data": list(PIXELS)}]})
        assert status == 400
        assert "Expected `int`" in text
        assert "$.inputs[0].shape[2]" in text


def test_errors_over_grpc_are_short(computing: Computing) -> None:
    """Errors are short, whatever the client sends: gRPC sends them in a header, where a long text does not fit."""
    request = message()
    request.outputs.add(name="x" * 100_000)
    request.parameters["y" * 100_000].int64_param = 1
    with answering(computing) as server:
        code, text = call(server, request.SerializeToString())
        assert (code, len(text) <= failures.MAX_TEXT) == ("INVALID_ARGUMENT", True)
        assert http(server, {"inputs": [GOOD]}, model="x" * 10_000)[0] == 404
