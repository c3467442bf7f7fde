"""`caflow serve`: a real server with unmodified clients."""

import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import in_a_process, started
from documentation import ROOT, blocks, commands
from many import cpu_seconds
from ports import listening
from servers import STARTS_S, Asked, Replied, Server, ask, ask_all, caflow_server
from tiny import pairs_of_photographs, photograph

from caflow_deploy.images.image_files import read_image
from caflow_runtime.pipeline.pipeline import Pipeline, load

pytestmark = [
    pytest.mark.full,
    # The client closes its connection again when it is garbage collected. In another thread, gevent cannot do that.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <function InferenceServerClient.__del__:pytest.PytestUnraisableExceptionWarning"
    ),
]

CLIENTS, REQUESTS, KILLED_AT = 16, 500, 150
MAX_BATCH = 8
"""Default of `--max-batch`."""


@pytest.fixture
def pipe(calibrated: Path) -> Iterator[Pipeline]:
    with load(calibrated, threads=1) as pipe:
        yield pipe


def requests_of(photographs: Path, count: int) -> list[Asked]:
    """Return requests with many image sizes, one or two images, and several n and seeds."""
    random = np.random.default_rng(0)
    asked = []
    for k in range(count):
        height, width = (int(side) for side in random.integers(5, 25, 2))
        images = [photograph(photographs, int(which), height, width) for which in random.integers(0, 13, 1 + k % 2)]
        asked.append(Asked({"image": np.stack(images)}, {"n": 1 + k % 5, "seed": k % 3}))
    return asked


def check(pipe: Pipeline, replies: Sequence[Replied]) -> None:
    """Compare replies with a local call, by value.

    Rows that run in another batch may differ in their last bits, and thus in a few pixels.
    """
    known: dict[int, Any] = {}
    for reply in replies:
        key = id(reply.asked)
        if key not in known:
            known[key] = pipe.best_of(reply.asked.tensors["image"], **reply.asked.parameters)
        best, given = known[key], reply.tensors
        np.testing.assert_array_equal(given["sample"][:, 0], best.sample)
        np.testing.assert_allclose(given["log_likelihood"][:, 0], best.log_likelihood, rtol=1e-6)
        np.testing.assert_allclose(given["sample_typicality"][:, 0], best.sample_typicality.value, atol=1e-3)
        different = np.abs(given["image"].astype(int) - np.asarray(best.images))
        assert different.max() <= 1
        assert (different > 0).mean() < 1e-3
        assert given["outcome"].ravel().tolist() == [b"unjudged"] * len(best.outcome)


def test_a_killed_worker_costs_only_its_own_requests(calibrated: Path, pipe: Pipeline, photographs: Path) -> None:
    """No answer has a wrong value, and the worker is replaced."""
    asked = requests_of(photographs, 50) * (REQUESTS // 50)
    with caflow_server(calibrated, workers=2) as server:
        before = [pid for pid in server.workers() if "-score" not in server.processes()[pid]]
        assert len(before) == 2

        def kill(done: int) -> None:
            if done == KILLED_AT:
                os.kill(before[0], signal.SIGKILL)

        replies = ask_all(server, "model", asked, CLIENTS, done=kill)
        good = [reply for reply in replies if reply.error is None]
        bad = [reply for reply in replies if reply.error is not None]
        print(f"{len(good)} of {len(replies)} answered; {sorted({str(reply.error) for reply in bad})}")
        assert len(replies) == REQUESTS
        assert len(good) >= KILLED_AT
        check(pipe, good)
        assert len(bad) <= MAX_BATCH  # the requests that the killed worker computed
        assert all("the worker process died before it answered: try again" in str(reply.error) for reply in bad)
        until = time.monotonic() + STARTS_S
        while len(server.workers()) < 2 and time.monotonic() < until:
            time.sleep(0.5)
        assert len(server.workers()) == 2
        assert before[0] not in server.workers()
        again = ask_all(server, "model", asked[:50], CLIENTS)
        assert [reply.error for reply in again] == [None] * 50
        check(pipe, again)


def test_verdicts_refusals_and_metrics(calibrated: Path, pipe: Pipeline, photographs: Path) -> None:
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
        for tensors, parameters, message in (
            ({"image": image}, {"n": 0}, "Expected `int` >= 1 - at `$.n`"),
            ({"image": image}, {"n": 10**6}, "must have at most 8388608 result pixels"),
            ({"image": image}, {"tau": 1}, "unknown field `tau`"),
            ({"image": image[..., :2]}, {}, "3"),
        ):
            refused = ask(server, "model", Asked(tensors, parameters))
            assert refused.error is not None
            assert message in refused.error
            assert not refused.disconnected
        values = scraped(server)
    assert values["caflow_requests_total", "model", "error"] == 0  # refused requests are no errors of the server
    assert values["caflow_requests_total", "model", "unjudged"] == 1
    assert values["caflow_requests_total", "model-score", "accepted"] == 1
    assert values["caflow_samples_total", "model", "accepted"] == 3
    assert values["caflow_sample_bits_per_dim_count", "model", ""] == 3
    assert values["caflow_stage_seconds_count", "model-score", "score"] == 1
    assert ("caflow_canary_difference", "model", "") in values


def test_requests_before_the_stop_are_answered(calibrated: Path, pipe: Pipeline, photographs: Path) -> None:
    asked = [Asked({"image": photograph(photographs, k, 24, 24)[None]}, {"n": 200}) for k in range(4)]
    with caflow_server(calibrated) as server:
        with ThreadPoolExecutor() as pool:
            before = cpu_seconds(server.workers())
            asking = pool.submit(ask_all, server, "model", asked, len(asked))
            while (
                cpu_seconds(server.workers()) < before + 0.5
            ):  # by then, requests that are asked at once have all arrived
                assert not asking.done()
                time.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            replies = asking.result()
            assert server.process.wait(STARTS_S) == 0
        assert [reply.error for reply in replies] == [None] * len(asked)
        check(pipe, replies)
        assert not server.is_ready()


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
