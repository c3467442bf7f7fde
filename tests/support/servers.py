"""`caflow serve`, started as users start it, and clients that send many requests at once."""

import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http
from many import processes_of
from numpy.typing import NDArray
from ports import free_port

from caflow_deploy.serving.service import MAX_REQUEST_PIXELS

STARTS_S, ENDS_S, ANSWERS_S = 600.0, 60.0, 120.0
WORKER = "--multiprocessing-fork"
"""Part of the command lines of worker processes."""


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    port: int
    scraped: int
    """Port of the metrics, which Prometheus would read."""

    @property
    def url(self) -> str:
        """Address for tritonclient: host:port."""
        return f"127.0.0.1:{self.port}"

    def metrics(self) -> str:
        """Return the text that Prometheus would read."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.scraped}/metrics", timeout=ANSWERS_S) as page:
            return str(page.read().decode())

    def processes(self) -> dict[int, str]:
        """Return the command lines of the server and of all its descendants, by process id."""
        return processes_of(self.process.pid)

    def workers(self) -> list[int]:
        """Return the process ids of the workers, which run the model, in ascending order."""
        return sorted(pid for pid, args in self.processes().items() if WORKER in args)

    def resident(self) -> int:
        """Return the private memory of all processes together, in bytes."""
        return sum(private_bytes(pid) for pid in self.processes())

    def is_ready(self) -> bool:
        """Return whether the server answers that it is ready."""
        try:
            client = tritonclient.http.InferenceServerClient(self.url)
            return bool(client.is_server_ready())
        except Exception:  # a starting server may fail in many ways
            return False


@dataclass(frozen=True)
class Asked:
    """One request."""

    tensors: Mapping[str, NDArray[np.uint8]]
    parameters: Mapping[str, Any]


@dataclass
class Replied:
    """Reply to a request, or the error that it caused."""

    asked: Asked
    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)
    error: str | None = None
    disconnected: bool = False
    """Whether the server could not be reached, or the connection ended before the reply."""
    seconds: float = 0.0


@contextmanager
def caflow_server(
    bundle: Path, workers: int = 1, max_pixels: int = MAX_REQUEST_PIXELS, *options: object
) -> Iterator[Server]:
    """Run `caflow serve` until the context ends."""
    command = [sys.executable, "-m", "caflow_deploy.cli", "serve", "--model", str(bundle), "--workers", str(workers)]
    port, scraped = free_port(), free_port()
    given = ["--port", str(port), "--metrics", str(scraped), "--max-pixels", str(max_pixels), *map(str, options)]
    with running([*command, *given], port, scraped) as server:
        yield server


@contextmanager
def running(command: Sequence[str], port: int, scraped: int) -> Iterator[Server]:
    """Start a server, wait until it is ready, and stop it with all its descendants when the context ends.

    Raises:
        RuntimeError: if the server does not become ready.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        server = Server(process, port, scraped)
        try:
            until = time.monotonic() + STARTS_S
            while not server.is_ready():
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise RuntimeError(f"{command[0]} did not start: {log.read().decode()[-4000:]}")
                time.sleep(0.2)
            yield server
        finally:
            started = server.processes()
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(ENDS_S)
            except subprocess.TimeoutExpired:
                process.kill()
            for pid in started:
                if Path(f"/proc/{pid}").exists():
                    os.kill(pid, signal.SIGKILL)


def ask(server: Server, model: str, asked: Asked) -> Replied:
    """Send one request with an unmodified tritonclient. An error is returned in the reply, not raised."""
    inputs = []
    for name, tensor in asked.tensors.items():
        inputs.append(tritonclient.http.InferInput(name, list(tensor.shape), "UINT8"))
        inputs[-1].set_data_from_numpy(tensor)
    reply, began = Replied(asked), time.perf_counter()
    try:
        with tritonclient.http.InferenceServerClient(
            server.url, network_timeout=ANSWERS_S, connection_timeout=ANSWERS_S
        ) as client:
            found = client.infer(model, inputs, parameters=dict(asked.parameters))
            names = [output["name"] for output in found.get_response()["outputs"]]
            reply.tensors = {name: found.as_numpy(name) for name in names}
    except Exception as error:  # of many types, some of them from gevent
        reply.error = f"{type(error).__name__}: {error}"
        reply.disconnected = isinstance(error, OSError | http.client.HTTPException)
    reply.seconds = time.perf_counter() - began
    return reply


def ask_all(
    server: Server,
    model: str,
    asked: Sequence[Asked],
    clients: int,
    done: Callable[[int], None] = lambda _: None,
) -> list[Replied]:
    """Send all requests with several clients at once and return the replies in the order of the requests.

    Arguments:
        clients: number of requests that are in flight at once.
        done: called after each reply with the number of replies so far.
    """
    count = iter(range(1, len(asked) + 1))

    def one(k: int) -> Replied:
        reply = ask(server, model, asked[k])
        done(next(count))
        return reply

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(one, range(len(asked))))


def private_bytes(pid: int) -> int:
    """Return the private memory of a process in bytes, or 0 if the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))
