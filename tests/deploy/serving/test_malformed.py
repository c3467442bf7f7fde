"""Ten thousand wrong or too large requests: servers answer each, still compute correctly, and do not leak memory."""

import http.client
import random
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fuzz_requests import http_body
from servers import STUB, Asked, Engine, Server, ask
from test_serving import ENGINES, environment, serve
from tiny import photograph

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
PATIENCE_S = {"caflow": 600, "triton": 60}
"""Timeout of a request, in seconds. It is long enough for a busy machine.

Triton may never answer what a worker was given that it then killed, so the same requests are soon sent again.
"""
LATE = "no answer in time"
UNWANTED = {"500", "502"}
"""Statuses that mean a fault of the server."""
LARGE = b"\x00" * 2**20
ENDS_TRITON = re.compile(rb"\d{10}")
"""A number in JSON that may be a dimension of a tensor.

Shapes that no memory can hold end Triton itself or its workers before our code reads the request, so Triton does not
get them.
"""


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
        np.testing.assert_array_equal(ask(server, "model", good).tensors["image"], wanted)
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
    seen = send(server, numbers, PATIENCE_S[engine])
    if engine == "triton" and (server.workers() != before or LATE in seen):
        before = server.workers()
        seen = send(server, numbers, PATIENCE_S[engine])
    assert server.workers() == before
    assert LATE not in seen
    return seen


def send(server: Server, numbers: range, patience: float) -> Counter[str]:
    """Send wrong requests, and return how often each answer came."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        return Counter(pool.map(lambda k: send_one(server, k, patience), numbers))


def send_one(server: Server, number: int, patience: float) -> str:
    """Send a wrong request, which is the same for the same number in each run."""
    assert server.process.poll() is None, "the server has ended"  # no request would be answered
    source = random.Random(number)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=patience)
    k = source.randrange(2)
    body, length = http_body(source, k)
    if server.worker == STUB and ENDS_TRITON.search(body):
        return "not sent"
    if source.random() < 0.1:
        body += LARGE * source.choice([1, 2, 8])  # larger than any request may be
    headers = {HEADER_LENGTH: length.encode()} if length is not None else {}
    model = source.choice([*[("model", "model-score")[k]] * 4, "nothing", "%00", "model/versions/7"])
    try:
        connection.request("POST", f"/v2/models/{model}/infer", body, headers)
        return str(connection.getresponse().status)
    except TimeoutError:
        return LATE
    except (ConnectionError, http.client.HTTPException) as error:  # refused before the whole body was sent
        return type(error).__name__
    finally:
        connection.close()
