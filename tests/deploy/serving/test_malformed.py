"""Five thousand wrong or too large requests: the server answers each, still computes correctly, and leaks no memory."""

import http.client
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fuzz_requests import http_body
from servers import Asked, Server, ask, caflow_server
from tiny import photograph

from caflow_deploy.serving.open_inference import HEADER_LENGTH
from caflow_runtime.pipeline.pipeline import load

pytestmark = pytest.mark.full

WARM, PHASE, PHASES, CLIENTS = 2_500, 625, 4, 8
"""Requests before the first measurement of memory, requests of a phase, phases, clients."""
MAX_PIXELS = 2**20
GROWS_BYTES = 8 * 2**20
"""Limit for the growth of memory in the phase with the smallest growth, in bytes: 13 kB for each request.

A leak shows in every phase. In some phases an allocator keeps more memory, because several large requests arrived
together.
"""
PATIENCE_S = 600
"""Timeout of a request, in seconds. It is long enough for a busy machine."""
UNWANTED = {"500", "502"}
"""Statuses that mean a fault of the server."""
LARGE = b"\x00" * 2**20


def test_wrong_requests_end_no_worker_and_leak_no_memory(calibrated: Path, photographs: Path) -> None:
    image = photograph(photographs, 0, 8, 8)[None]
    good = Asked({"image": image}, {"n": 2})
    with load(calibrated, threads=1) as pipe:
        wanted = pipe.best_of(image, n=2).images
    with caflow_server(calibrated, 1, MAX_PIXELS) as server:
        workers = server.workers()
        seen = send(server, range(WARM))
        resident = [server.resident()]
        for k in range(PHASES):
            seen += send(server, range(WARM + k * PHASE, WARM + (k + 1) * PHASE))
            resident.append(server.resident())
        grown = np.diff(resident)
        print(f"{dict(seen)}, more MiB in each phase: {np.round(grown / 2**20, 1)}")
        np.testing.assert_array_equal(ask(server, "model", good).tensors["image"], wanted)
        assert sum(seen.values()) == WARM + PHASES * PHASE
        assert grown.min() < GROWS_BYTES
        assert server.workers() == workers
        assert not [answer for answer in seen if answer in UNWANTED]


def send(server: Server, numbers: range) -> Counter[str]:
    """Send wrong requests, and return how often each answer came."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        return Counter(pool.map(lambda k: send_one(server, k), numbers))


def send_one(server: Server, number: int) -> str:
    """Send a wrong request, which is the same for the same number in each run."""
    assert server.process.poll() is None, "the server has ended"  # no request would be answered
    source = random.Random(number)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    k = source.randrange(2)
    body, length = http_body(source, k)
    if source.random() < 0.1:
        body += LARGE * source.choice([1, 2, 8])  # larger than any request may be
    headers = {HEADER_LENGTH: length.encode()} if length is not None else {}
    model = source.choice([*[("model", "model-score")[k]] * 4, "nothing", "%00", "model/versions/7"])
    try:
        connection.request("POST", f"/v2/models/{model}/infer", body, headers)
        return str(connection.getresponse().status)
    except (ConnectionError, http.client.HTTPException) as error:  # refused before the whole body was sent
        return type(error).__name__
    finally:
        connection.close()
