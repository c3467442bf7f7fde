"""Ten thousand wrong or too large requests: servers answer each, still compute correctly, and do not leak memory."""

import http.client
import json
import random
import struct
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from servers import Asked, Engine, Server, ask
from test_serving import ENGINES, environment, serve
from tiny import photograph
from tritonclient.grpc import service_pb2

from caflow_deploy.serving.open_inference import HEADER_LENGTH
from caflow_runtime.pipeline.pipeline import load

pytestmark = pytest.mark.full

__all__ = ["environment"]  # a fixture that pytest must find in this module

WARM, PHASE, PHASES, CLIENTS = 2_500, 625, 4, 8
"""Numbers for each engine: requests before the first measurement of memory, requests of a phase, phases, clients."""
MAX_PIXELS = 2**20
GROWS_BYTES = 8 * 2**20
"""Limit for the growth of memory in the phase with the smallest growth, in bytes: 13 kB for each request.

A leak shows in every phase. In some phases an allocator keeps more memory, because several large requests arrived
together.
"""
PATIENCE_S = 600
"""Timeout of a request, in seconds. It is long enough for a busy machine."""
NOTICES_S = 1
"""Time between two checks that the server still runs while a request waits for its answer, in seconds."""
SHAPES: list[Any] = [
    [1, 8, 8, 3],
    [8, 8, 3],
    [1, 8, 8, 4],
    [0, 8, 8, 3],
    [1, 2**40, 2**40, 3],
    [-1, 8, 8, 3],
    [2**70],
    [],
    "8",
    [10**4000, 1, 1, 3],
]
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    2**80,
    10**400,
    1.5,
    "x" * 1000,
    [],
    {},
    [[]],
    {"a": {"b": []}},
    "NaN",
    "é\u0000",
]
UNWANTED = {"500", "502", "INTERNAL", "UNKNOWN", "UNAVAILABLE"}
"""Statuses that mean a fault of the server."""
LARGE = b"\x00" * 2**20


@pytest.mark.parametrize("engine", ENGINES)
def test_ten_thousand_wrong_requests_end_no_server_and_leak_no_memory(
    engine: Engine, calibrated: Path, photographs: Path, request: pytest.FixtureRequest
) -> None:
    image = photograph(photographs, 0, 8, 8)[None]
    good = Asked({"image": image}, {"n": 2})
    with load(calibrated, threads=1) as pipe:
        wanted = pipe.best_of(image, n=2).images
    with serve(engine, calibrated, request, 1, MAX_PIXELS) as server:
        seen = survive(engine, server, range(WARM))
        resident = [server.resident()]
        for k in range(PHASES):
            seen += survive(engine, server, range(WARM + k * PHASE, WARM + (k + 1) * PHASE))
            resident.append(server.resident())
        grown = np.diff(resident)
        print(f"{engine}: {dict(seen)}, more MiB in each phase: {np.round(grown / 2**20, 1)}")
        for protocol in ("http", "grpc"):
            np.testing.assert_array_equal(ask(server, "model", good, protocol).tensors["image"], wanted)
        assert sum(seen.values()) == WARM + PHASES * PHASE
        assert grown.min() < GROWS_BYTES
        if engine == "caflow":  # Triton answers requests that it cannot parse with a status of UNWANTED
            assert not [answer for answer in seen if answer in UNWANTED]


def survive(engine: Engine, server: Server, numbers: range) -> Counter[str]:
    """Send wrong requests, and check that none of them ends a worker. Return how often each answer came.

    Triton also kills a worker that did not report for a second, which happens on a busy machine. If a worker has
    ended, the same requests are therefore sent again: a request that ends a worker does so each time.
    """
    before = server.workers()
    seen = send(server, numbers)
    if engine == "triton" and server.workers() != before:
        before = server.workers()
        seen = send(server, numbers)
    assert server.workers() == before
    return seen


def send(server: Server, numbers: range) -> Counter[str]:
    """Send wrong requests, and return how often each answer came."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        return Counter(pool.map(lambda k: send_one(server, k), numbers))


def send_one(server: Server, k: int) -> str:
    """Send wrong request number `k`, which is the same in each run."""
    check_runs(server)
    source = random.Random(k)
    return send_grpc(server, source) if k % 2 else send_http(server, source)


def check_runs(server: Server) -> None:
    assert server.process.poll() is None, "the server has ended"  # no request would be answered


def send_http(server: Server, source: random.Random) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", server.ports["http"], timeout=PATIENCE_S)
    body, headers = broken_http(source)
    model = source.choice(["model", "model", "model", "model-score", "nothing", "%00", "model/versions/7"])
    try:
        connection.request("POST", f"/v2/models/{model}/infer", body, headers)
        return str(connection.getresponse().status)
    except (ConnectionError, http.client.HTTPException) as error:  # refused before the whole body was sent
        return type(error).__name__
    finally:
        connection.close()


def broken_http(source: random.Random) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of a request with one fault."""
    pixels = source.randbytes(192)
    given: dict[str, Any] = {"name": "image", "shape": [1, 8, 8, 3], "datatype": "UINT8"}
    given["parameters"] = {"binary_data_size": len(pixels)}
    header: dict[str, Any] = {"inputs": [given], "parameters": {"n": 1}}
    headers = {}
    kind = source.randrange(10)
    if kind == 0:
        given["shape"] = source.choice(SHAPES)
        given["shape"] = [1, 8, 8, 4] if given["shape"] == [1, 8, 8, 3] else given["shape"]
    elif kind == 1:
        given[source.choice(["name", "shape", "datatype", "parameters"])] = source.choice(VALUES)
    elif kind == 2:
        given["parameters"]["binary_data_size"] = source.choice([*VALUES[1:5], 191, 193, 10**12])
    elif kind == 3:
        header["parameters"] = {source.choice(["n", "seed", "rank", "nothing", "timeout"]): source.choice(VALUES[5:])}
    elif kind == 4:
        header = {"inputs": source.choice(VALUES)}
    elif kind == 5:
        del given["parameters"]
        given["data"] = source.choice([*VALUES, [1, [2]], [256] * 192, ["a"] * 192, [0.5] * 192])
        pixels = b""
    elif kind == 6:
        header["parameters"] = {"n": 2**31}
    elif kind == 7:
        pixels = LARGE * source.choice([1, 2, 8])  # larger than any request may be
    text = json.dumps(header).encode()
    if kind == 8:
        text = bytes(byte ^ (source.random() < 0.05) * source.randrange(1, 256) for byte in text)
        text = text[: source.randrange(1, len(text))] + b"["
    headers[HEADER_LENGTH] = str(len(text))
    if kind == 9:
        headers[HEADER_LENGTH] = source.choice(["-1", "x", "1e9", str(2**70), "0", "3"])
    return text + pixels, headers


def send_grpc(server: Server, source: random.Random) -> str:
    with grpc.insecure_channel(f"127.0.0.1:{server.ports['grpc']}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        answer = call.future(broken_grpc(source), timeout=PATIENCE_S, wait_for_ready=True)  # connecting may take long
        while True:
            with suppress(grpc.FutureTimeoutError):
                return "OK" if answer.exception(NOTICES_S) is None else str(answer.code().name)
            check_runs(server)


def broken_grpc(source: random.Random) -> bytes:
    """Return a message with one fault."""
    request = service_pb2.ModelInferRequest(model_name="model")
    given = request.inputs.add(name="image", datatype="UINT8", shape=[1, 8, 8, 3])
    request.raw_input_contents.append(source.randbytes(192))
    kind = source.randrange(7)
    if kind == 0:
        del given.shape[:]
        given.shape.extend(source.choice([[1, 8, 8, 4], [8, 8, 3], [], [1, 2**40, 2**40, 3], [-1, 8, 8, 3], [0] * 70]))
    elif kind == 1:
        given.datatype = source.choice(["FP32", "", "BYTES", "é"])
    elif kind == 2:
        request.raw_input_contents[0] = source.choice([b"", LARGE, struct.pack("<Q", 2**63)])
    elif kind == 3:
        request.parameters[source.choice(["n", "seed", "nothing"])].string_param = source.choice(
            ["", "x", "-1", "9" * 400]
        )
    elif kind == 4:
        request.model_name = source.choice(["", "nothing", "model-score"])
    elif kind == 5:
        request.inputs.add(name=source.choice(["image", "mask"]), datatype="UINT8", shape=[1])
    else:
        whole = bytearray(request.SerializeToString())
        for _ in range(8):
            whole[source.randrange(12)] ^= source.randrange(1, 256)
        return bytes(whole) + b"\xff\xff"
    return bytes(request.SerializeToString())
