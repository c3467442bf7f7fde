"""`caflow serve`: a real server with unmodified clients, and with thousands of wrong or too large requests."""

import http.client
import random
import re
import shlex
import shutil
import sys
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from commands import in_a_process, started
from documentation import ROOT, blocks, commands
from fuzz_requests import http_body
from ports import listening
from servers import Asked, Server, ask, caflow_server
from tiny import calibrated_pipe as pipe
from tiny import pairs_of_photographs, photograph

from caflow_deploy.images.image_files import read_image
from caflow_deploy.serving.open_inference import HEADER_LENGTH
from caflow_runtime.pipeline.pipeline import Pipeline

__all__ = ["pipe"]  # a fixture

pytestmark = pytest.mark.full


def test_verdicts_refusals_and_metrics(calibrated: Path, pipe: Pipeline, photographs: Path) -> None:
    """`test_service.py` and `test_open_inference.py` have all kinds of wrong requests."""
    (pair,) = pairs_of_photographs(pipe, photographs, 1)[:1]
    image = photograph(photographs, 0, 16, 12)[None]
    with caflow_server(calibrated) as server:
        judged = ask(server, "model-score", Asked({"target": pair.target[None], "condition": pair.condition[None]}, {}))
        score = pipe.score(pair.target, pair.condition)
        assert judged.error is None
        np.testing.assert_allclose(judged.tensors["log_likelihood"][:, 0], score.log_likelihood, rtol=1e-6)
        assert score.image_typicality is not None
        assert judged.tensors["accepted"][:, 0].tolist() == score.image_typicality.accept().tolist()
        drawn = ask(server, "model", Asked({"image": image}, {"n": 3, "temperature": "0.5"}))
        np.testing.assert_array_equal(drawn.tensors["image"], pipe.best_of(image, n=3, temperature=0.5).images)
        refused = ask(server, "model", Asked({"image": image}, {"n": 10**6}))
        assert refused.error is not None
        assert "must have at most 8388608 result pixels" in refused.error
        assert not refused.disconnected
        values = scraped(server)
    assert values["caflow_requests_total", "model", "error"] == 0  # refused requests are no errors of the server
    assert values["caflow_requests_total", "model", "unjudged"] == 1
    assert values["caflow_requests_total", "model-score", "accepted"] == 1
    assert values["caflow_samples_total", "model", "accepted"] == 3
    assert values["caflow_sample_bits_per_dim_count", "model", ""] == 3
    assert values["caflow_stage_seconds_count", "model-score", "score"] == 1
    assert ("caflow_canary_difference", "model", "") in values


def scraped(server: Server) -> dict[tuple[str, str, str], float]:
    """Return our metrics by name, model, and outcome, verdict or stage."""
    values: dict[tuple[str, str, str], float] = defaultdict(float)
    for line in server.metrics().splitlines():
        if found := re.fullmatch(r"(caflow_\w+)\{(.*)\} (\S+)", line):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', found[2]))
            which = next((labels[name] for name in ("outcome", "verdict", "stage") if name in labels), "")
            values[found[1], labels["model"], which] += float(found[3])
    return values


def test_the_clients_of_the_guide_get_images_from_the_server_of_the_guide(tmp_path: Path) -> None:
    if listening(8000) or shutil.which("curl") is None:
        pytest.skip("port 8000, which the guide uses, is not free, or there is no curl")
    guide = "docs/guides/servers.md"
    (line,) = (line for line in commands(guide) if line.startswith("caflow serve --workers"))
    (block,) = blocks("python", (guide,))
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    with started([sys.executable, "-m", "caflow_deploy.cli", *shlex.split(line)[1:]]) as server:
        server.stdout.readline()  # the server is ready
        for curl in (line for line in commands(guide) if line.startswith("curl")):
            in_a_process(shlex.split(curl), cwd=tmp_path)
        done = in_a_process([sys.executable, "-c", block.code], cwd=ROOT)
    assert "Caflow-Verdict: usual".lower() in (tmp_path / "headers.txt").read_text().lower()
    assert read_image(tmp_path / "enlarged.png").rgb.shape == (300, 448, 3)
    for name in ("mended.jpg", "coloured.jpg"):
        assert read_image(tmp_path / name).rgb.any()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(1, 300, 448, 3)")


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


def test_wrong_requests_end_no_worker_and_leak_no_memory(calibrated: Path, pipe: Pipeline, photographs: Path) -> None:
    """The server answers each of five thousand requests, and still computes correctly afterwards."""
    image = photograph(photographs, 0, 8, 8)[None]
    good = Asked({"image": image}, {"n": 2})
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
