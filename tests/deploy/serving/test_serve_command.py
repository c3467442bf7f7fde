"""`caflow serve` as a process: its start, its end, and errors before it is ready."""

import json
import os
import shutil
import signal
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from commands import caflow, command, started
from many import cpu_seconds, is_running, workers_of
from ports import free_port, listening

PATIENCE_S = 300


def ask(port: int, n: int) -> Any:
    """Ask the model for the best of n samples of a small image."""
    image = {"name": "image", "shape": [1, 8, 8, 3], "datatype": "UINT8", "data": [0] * 192}
    body = json.dumps({"inputs": [image], "parameters": {"n": n}}).encode()
    url = f"http://127.0.0.1:{port}/v2/models/model/infer"
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=PATIENCE_S) as answer:
        return json.load(answer)


def wait_until_gone(processes: list[int]) -> None:
    end = time.monotonic() + PATIENCE_S
    while any(is_running(process) for process in processes):
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def computing(bundle: Path, n: int) -> Iterator[tuple[Any, Future[Any]]]:
    """Yield a server, and the answer of n samples that one of its two workers computes. The workers must then end."""
    port = free_port()
    line = command("serve", "--model", bundle, "--port", port, "--workers", 2, "--max-pixels", 2**31)
    with started(line, start_new_session=True) as process, ThreadPoolExecutor() as pool:
        assert process.stdout.readline() == f"model is ready at http://127.0.0.1:{port}\n"
        workers = workers_of(process.pid)
        assert len(workers) == 2
        answer = pool.submit(ask, port, n)
        before = cpu_seconds(workers)
        while cpu_seconds(workers) < before + 0.1:
            assert not answer.done()
            time.sleep(0.01)
        yield process, answer
        wait_until_gone(workers)
    assert not listening(port)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_answers_running_requests_before_a_signal_ends_it(calibrated: Path, number: signal.Signals) -> None:
    """A signal for the whole process group, as Ctrl-C sends it, does not end the workers before their requests."""
    with computing(calibrated, 3000) as (process, answer):
        os.killpg(process.pid, number)
        assert answer.result()["outputs"][0]["shape"] == [1, 32, 32, 3]
        assert process.communicate(timeout=PATIENCE_S) == ("", "")
        assert process.returncode == 0


def test_workers_end_with_a_server_that_is_killed(calibrated: Path) -> None:
    """Also one that would compute for longer than the test waits."""
    with computing(calibrated, 2**20) as (process, answer):
        process.kill()
        assert isinstance(answer.exception(), OSError)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_starts_can_be_stopped(calibrated: Path, number: signal.Signals) -> None:
    """A stopped worker never becomes ready."""
    with started(command("serve", "--model", calibrated, "--port", free_port())) as process:
        end = time.monotonic() + PATIENCE_S
        while not (workers := workers_of(process.pid)):
            assert process.poll() is None
            assert time.monotonic() < end
        os.kill(workers[0], signal.SIGSTOP)
        process.send_signal(number)
        assert process.communicate(timeout=PATIENCE_S) == ("", "")
        wait_until_gone(workers)
    assert process.returncode == 0


def test_a_worker_that_cannot_start_ends_the_command_with_one_line(calibrated: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(calibrated, tmp_path / "model.caflow"))
    weights = max(bundle.glob("*"), key=lambda path: path.stat().st_size)
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    port = free_port()
    done = caflow("serve", "--model", bundle, "--port", port, "--workers", 2, code=1)
    assert done.stderr.startswith(f"caflow: a worker could not start: {weights} is damaged: expected SHA-256 ")
    assert len(done.stderr.splitlines()) == 1
    done = caflow("serve", "--model", calibrated, "--port", port, "--backend", "ort:nothing", code=1)
    assert done.stderr.startswith("caflow: a worker could not start: backend: expected one of")


def test_wrong_use_ends_the_command_before_workers_start(tmp_path: Path) -> None:
    same = caflow("serve", "--port", 8777, "--metrics", 8777, code=2)
    assert "must be different ports" in same.stderr
    caflow("serve", "--model", tmp_path, code=2)
