"""The servers of the Open Inference Protocol, started as users start them; and many clients at once."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray

from caflow_export.triton import write_repository
from caflow_runtime.service.service import MAX_PIXELS

ROOT = Path(__file__).parents[1]
STARTS_S, ENDS_S, ANSWERS_S = 600.0, 60.0, 120.0
REPLICA, STUB = "ray::ServeReplica", "triton_python_backend_stub"
Engine = Literal["ray", "triton"]
Protocol = Literal["http", "grpc"]
CLIENTS: dict[Protocol, Any] = {"http": tritonclient.http, "grpc": tritonclient.grpc}


@dataclass
class Server:
    """One that runs."""

    process: subprocess.Popen[bytes]
    ports: dict[Protocol, int]
    scraped: int
    """Port that Prometheus would ask."""
    replica: str
    """What the command line of its workers has in it."""

    def url(self, protocol: Protocol) -> str:
        """As tritonclient wants it."""
        return f"127.0.0.1:{self.ports[protocol]}"

    def metrics(self) -> str:
        """As Prometheus gets them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.scraped}/metrics", timeout=10) as page:
            return str(page.read().decode())

    def processes(self) -> dict[int, str]:
        """Of the server and what it started: command lines."""
        listed = subprocess.run(["ps", "-wweo", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
        rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
        parents = {int(pid): int(parent) for pid, parent, *_ in rows}

        def is_ours(pid: int) -> bool:
            while pid > 1 and pid != self.process.pid:
                pid = parents.get(pid, 0)
            return pid == self.process.pid

        return {int(pid): " ".join(args) for pid, _, *args in rows if is_ours(int(pid))}

    def replicas(self) -> list[int]:
        """What computes."""
        return sorted(pid for pid, args in self.processes().items() if self.replica in args)

    def resident(self) -> int:
        """Bytes that belong to no other process, of all together."""
        return sum(private_bytes(pid) for pid in self.processes())

    def is_ready(self) -> bool:
        """Whether it says so."""
        try:
            client = tritonclient.http.InferenceServerClient(self.url("http"))
            return bool(client.is_server_ready())
        except Exception:  # whatever comes while it starts
            return False


@dataclass(frozen=True)
class Asked:
    """A request."""

    tensors: Mapping[str, NDArray[np.uint8]]
    parameters: Mapping[str, Any]


@dataclass
class Replied:
    """What came of it."""

    asked: Asked
    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)
    error: str | None = None
    seconds: float = 0.0


@contextmanager
def ray_server(bundle: Path, replicas: int = 1, max_pixels: int = MAX_PIXELS) -> Iterator[Server]:
    """`caflow serve`."""
    ports: dict[Protocol, int] = {"http": free_port(), "grpc": free_port()}
    command = [sys.executable, "-m", "caflow_deploy.cli", "serve", "--bundle", str(bundle), "--replicas", str(replicas)]
    scraped = free_port()
    given = ["--port", str(ports["http"]), "--grpc-port", str(ports["grpc"]), "--metrics", str(scraped)]
    given += ["--max-pixels", str(max_pixels)]
    folder = Path(tempfile.mkdtemp(prefix="caflow-"))  # names of sockets may not be long
    # On a busy machine, Ray's workers would wait for minutes: they yield to everything else unless told otherwise.
    environment = {**os.environ, "RAY_TMPDIR": str(folder), "RAY_worker_niceness": "0"}
    try:
        with running([*command, *given], environment, ports, scraped, REPLICA) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def triton_server(bundle: Path, installed: Path, instances: int = 1, max_pixels: int = MAX_PIXELS) -> Iterator[Server]:
    """NVIDIA's server on a repository of `caflow-export --triton`; `installed` is what `triton_environment` made."""
    ports: dict[Protocol, int] = {"http": free_port(), "grpc": free_port()}
    scraped = free_port()
    folder = Path(tempfile.mkdtemp(prefix="caflow-"))
    for model in write_repository(bundle, folder / "models", force=False):
        config = model / "config.pbtxt"
        # Each instance has one thread, as a replica of `caflow serve` has.
        text = config.read_text().replace(
            'key: "threads" value { string_value: "0" }', 'key: "threads" value { string_value: "1" }'
        )
        config.write_text(
            f"{text.replace(str(MAX_PIXELS), str(max_pixels))}\n"
            f'parameters {{ key: "EXECUTION_ENV_PATH" value {{ string_value: "{installed}" }} }}\n'
            f"instance_group [ {{ count: {instances} kind: KIND_CPU }} ]\n"
        )
    packages = next((installed / "lib").glob("python3.*/site-packages"))
    there = packages / "pytriton" / "tritonserver"
    shutil.copytree(there / "backends" / "python", folder / "backends" / "python")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy2(there / "python_backend_stubs" / version / STUB, folder / "backends" / "python")
    libraries = f"{sysconfig.get_config_var('LIBDIR')}:{packages / 'nvidia_pytriton.libs'}"
    command = [
        str(there / "bin" / "tritonserver"),
        f"--model-repository={folder / 'models'}",
        f"--backend-directory={folder / 'backends'}",
        *(f"--{name}-address=127.0.0.1" for name in ("http", "grpc", "metrics")),
        *(f"--{name}-port={port}" for name, port in (*ports.items(), ("metrics", scraped))),
    ]
    try:
        environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
        with running(command, environment, ports, scraped, STUB) as server:
            yield server
    finally:
        shutil.rmtree(folder)


def triton_environment(folder: Path) -> Path:
    """A virtual environment with the runtime and Triton, made where it is not there yet."""
    if not (folder / "done").exists():
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", f"{ROOT}[triton]"], check=True)
        (folder / "done").touch()
    return folder


@contextmanager
def running(
    command: Sequence[str],
    environment: Mapping[str, str],
    ports: dict[Protocol, int],
    scraped: int,
    replica: str,
) -> Iterator[Server]:
    """A server that is ready, and is ended with all that it started."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        server = Server(process, ports, scraped, replica)
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


def ask(server: Server, model: str, asked: Asked, protocol: Protocol, client: Any = None) -> Replied:
    """One request by an unmodified client."""
    package = CLIENTS[protocol]
    inputs = []
    for name, tensor in asked.tensors.items():
        inputs.append(package.InferInput(name, list(tensor.shape), "UINT8"))
        inputs[-1].set_data_from_numpy(tensor)
    reply, began = Replied(asked), time.perf_counter()
    try:
        with client_of(server, protocol) if client is None else nothing(client) as used:
            found = used.infer(model, inputs, parameters=dict(asked.parameters))
            names = [output["name"] for output in outputs_of(found)]
            reply.tensors = {name: found.as_numpy(name) for name in names}
    except Exception as error:  # of many kinds, some of them gevent's
        reply.error = f"{type(error).__name__}: {error}"
    reply.seconds = time.perf_counter() - began
    return reply


def ask_all(
    server: Server,
    model: str,
    asked: Sequence[Asked],
    clients: int,
    protocols: Sequence[Protocol] = ("http", "grpc"),
    done: Callable[[int], None] = lambda _: None,
) -> list[Replied]:
    """All requests by so many clients at once, in turns of the protocols; `done` is told how many are."""
    count = iter(range(1, len(asked) + 1))

    def one(k: int) -> Replied:
        reply = ask(server, model, asked[k], protocols[k % len(protocols)])
        done(next(count))
        return reply

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(one, range(len(asked))))


@contextmanager
def client_of(server: Server, protocol: Protocol) -> Iterator[Any]:
    """An unmodified one."""
    waits = {"network_timeout": ANSWERS_S, "connection_timeout": ANSWERS_S} if protocol == "http" else {}
    client = CLIENTS[protocol].InferenceServerClient(server.url(protocol), **waits)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def nothing(client: Any) -> Iterator[Any]:
    """What is kept open."""
    yield client


def outputs_of(found: Any) -> list[dict[str, Any]]:
    """Of a result of either client."""
    response = found.get_response()
    if isinstance(response, dict):
        return list(response["outputs"])
    return [{"name": output.name} for output in response.outputs]


def private_bytes(pid: int) -> int:
    """0 of a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))


def free_port() -> int:
    """Of the loopback address."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])
