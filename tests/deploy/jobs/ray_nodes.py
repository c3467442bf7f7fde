"""A Ray cluster on the two machines of `two_machines`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from two_machines import Machine, two_machines

RAY = str(Path(sys.executable).with_name("ray"))
PORT = 6379
QUICK_TO_NOTICE = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "5000"}
"""Settings with which Ray gives up an unreachable node after seconds."""


@dataclass(frozen=True)
class Nodes:
    """The cluster. Its head node is on the first machine."""

    machines: list[Machine]
    address: str
    environment: dict[str, str]


@contextmanager
def two_nodes(folder: Path, cpus: int) -> Iterator[Nodes]:
    """Run a cluster with `cpus` CPUs for actors on each machine, until the block ends. The output goes to `folder`."""
    environment = {**os.environ, **QUICK_TO_NOTICE, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    with TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as sockets, two_machines(folder) as machines:
        address = f"{machines[0].address}:{PORT}"
        head = ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={sockets}"]
        for machine, options in zip(machines, (head, [f"--address={address}"]), strict=True):
            own = [f"--node-ip-address={machine.address}", f"--num-cpus={cpus}", "--disable-usage-stats"]
            command = machine.command([RAY, "start", *options, *own])
            subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=600)
        yield Nodes(machines, address, environment)
