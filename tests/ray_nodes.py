"""A Ray cluster of two machines, which are network namespaces of this one, joined by a cable. Needs root."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

RAY = str(Path(sys.executable).with_name("ray"))
PORT = 6379
ADDRESSES = ("10.77.0.1", "10.77.0.2")
QUICK_TO_NOTICE = {"RAY_health_check_period_ms": "500", "RAY_health_check_timeout_ms": "1000"}
"""Nodes that do not answer are given up after seconds."""


def missing() -> str | None:
    """Why there can be no such cluster here."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "network namespaces need root, and the command ip"
    tried = subprocess.run(["ip", "netns", "add", f"try{os.getpid()}"], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"network namespaces cannot be made here: {tried.stderr.strip()}"
    _ip("netns", "delete", f"try{os.getpid()}")
    return None


class Nodes:
    """Two machines; the cluster's head is on the first."""

    def __init__(self) -> None:
        self.names = [f"{name}{os.getpid()}" for name in ("head", "other")]
        self.folder = mkdtemp(prefix="ray")  # short: it holds Unix sockets
        self.address = f"{ADDRESSES[0]}:{PORT}"
        self.environment = {
            **os.environ,
            **QUICK_TO_NOTICE,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",
        }

    def start(self, cpus: int) -> None:
        """Namespaces, the cable between them, and Ray, with so many processors for actors on each side."""
        cable = [f"v{name}" for name in self.names]
        for name in self.names:
            _ip("netns", "add", name)
        peer = ["peer", "name", cable[1], "netns", self.names[1]]
        _ip("link", "add", cable[0], "netns", self.names[0], "type", "veth", *peer)
        for name, end, address in zip(self.names, cable, ADDRESSES, strict=True):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", end)
            _ip("-n", name, "link", "set", end, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        head = ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={self.folder}"]
        for number, options in enumerate((head, [f"--address={self.address}"])):
            own = [f"--node-ip-address={ADDRESSES[number]}", f"--num-cpus={cpus}", "--disable-usage-stats"]
            command = self.command(number, [RAY, "start", *options, *own])
            subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True, timeout=90)

    def command(self, number: int, command: list[str]) -> list[str]:
        """A command, to be run on one of the machines."""
        return ["ip", "netns", "exec", self.names[number], *command]

    def processes(self, number: int) -> list[int]:
        """All that run on a machine."""
        found = subprocess.run(["ip", "netns", "pids", self.names[number]], capture_output=True, text=True, check=False)
        return [int(line) for line in found.stdout.split()]

    def kill(self, number: int) -> None:
        """A machine's end."""
        for _ in range(50):
            pids = self.processes(number)
            if not pids:
                return
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, 9)
            time.sleep(0.1)

    def end(self) -> None:
        """Of everything."""
        for number, name in enumerate(self.names):
            self.kill(number)
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def two_nodes(cpus: int) -> Iterator[Nodes]:
    """Two machines with so many processors each, until the block ends."""
    nodes = Nodes()
    try:
        nodes.start(cpus)
        yield nodes
    finally:
        nodes.end()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
