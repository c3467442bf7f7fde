"""HTTP and gRPC servers of a real model: limits for slow, large and many requests, and deadlines."""

import contextlib
import json
import socket
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from front_calls import (
    CALL,
    GOOD,
    PATIENCE_S,
    PIXELS,
    HeldBackend,
    answering,
    backend,
    call,
    half_called,
    half_sent,
    http,
    http_good,
    message,
    sampler,
    wait_for,
)

from caflow_deploy.serving import body_limiter, server_runner

__all__ = ["backend", "sampler"]  # fixtures


def test_a_request_must_arrive_in_time(backend: HeldBackend) -> None:
    with answering(backend, seconds=0.1) as server:
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
    backend: HeldBackend, monkeypatch: pytest.MonkeyPatch, sent: bytes, earlier: int
) -> None:
    """The timeout applies to the first request of a connection and to later ones."""
    monkeypatch.setattr(server_runner, "HEADERS_S", PATIENCE_S if earlier else 0.1)
    monkeypatch.setattr(server_runner, "IDLE_S", 1)
    with answering(backend) as server, socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
        answers = connection.makefile("rb")
        for _ in range(earlier):
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            while answers.readline() != b"\r\n":
                pass
            assert answers.read(len(b'{"live":true}')) == b'{"live":true}'
        monkeypatch.setattr(server_runner, "HEADERS_S", 0.1)
        with contextlib.suppress(ConnectionError):  # closed before the server has read what was sent
            connection.sendall(sent)
            assert answers.read() == b""  # the connection was closed


def test_the_number_of_arriving_requests_is_limited(backend: HeldBackend) -> None:
    with answering(backend, most=1, seconds=PATIENCE_S) as server:
        with half_sent(server):
            found = wait_for(lambda: http(server, {"inputs": []}), lambda found: found[0] == 503)
            assert found[1] == "too many requests: 1 are arriving already; try again later"
            assert call(server, b"")[0] == "RESOURCE_EXHAUSTED"
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
        assert call(server, message(raw=bytes(1001)).SerializeToString())[0] == "RESOURCE_EXHAUSTED"  # by gRPC itself
        assert http_good(server)


def test_the_memory_of_waiting_requests_is_limited(backend: HeldBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limiter, "MAX_HELD", 1)
    backend.may_answer.clear()
    held = {"inputs": [{**GOOD, "data": list(PIXELS)}], "id": "x" * 200}
    with answering(backend, largest=400) as server:
        waiting = threading.Thread(target=http, args=(server, held))
        waiting.start()
        assert backend.asked.wait(PATIENCE_S)
        status, text = http(server, held)
        assert (status, "use all memory for requests" in text) == (503, True)
        backend.may_answer.set()
        waiting.join()
        assert http_good(server)


def test_grpc_messages_that_find_no_memory_are_refused(backend: HeldBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limiter, "MAX_HELD", 1)
    backend.may_answer.clear()
    with answering(backend) as server, ThreadPoolExecutor() as pool:
        waiting = pool.submit(http_good, server)
        assert backend.asked.wait(PATIENCE_S)
        code, text = call(server, message().SerializeToString())
        assert (code, "use all memory for requests" in text) == ("RESOURCE_EXHAUSTED", True)
        backend.may_answer.set()
        assert waiting.result()
        assert call(server, message().SerializeToString())[0] == "OK"


def test_a_request_whose_client_has_left_is_cancelled(backend: HeldBackend) -> None:
    backend.may_answer.clear()
    text = json.dumps({"inputs": [{**GOOD, "data": list(PIXELS)}]}).encode()
    start = f"POST /v2/models/model/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\n\r\n".encode()
    with answering(backend) as server:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
            connection.sendall(start + text)
            assert backend.asked.wait(PATIENCE_S)
        assert backend.left.wait(PATIENCE_S)
        backend.left.clear()
        backend.asked.clear()
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            called = channel.unary_unary(CALL).future(message().SerializeToString())
            assert backend.asked.wait(PATIENCE_S)
            called.cancel()
            assert backend.left.wait(PATIENCE_S)


def test_a_client_may_set_a_shorter_timeout(backend: HeldBackend) -> None:
    backend.may_answer.clear()
    request = message()
    request.parameters["timeout"].int64_param = 1
    with answering(backend) as server:
        header = {"inputs": [{**GOOD, "data": list(PIXELS)}], "parameters": {"timeout": 1}}
        assert http(server, header)[0] == 504
        assert call(server, request.SerializeToString())[0] == "DEADLINE_EXCEEDED"
