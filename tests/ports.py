"""Ports of this machine: free ones, and those at which something listens."""

import os
import socket
from pathlib import Path

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
"""Which of the processes of pytest-xdist this is."""


def free_port() -> int:
    """Of the loopback address; no two workers get the same one."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = int(found.getsockname()[1])
        if port // 2 % WORKERS == WORKER:  # Linux gives even ones first
            return port


def listening(port: int) -> set[str]:
    """Addresses at which something listens on that port, by IPv4 or IPv6, as Linux writes them."""
    tables = [path for path in map(Path, ("/proc/net/tcp", "/proc/net/tcp6")) if path.exists()]
    rows = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    is_listening = "0A"
    ends = [row[1].split(":") for row in rows if row[3] == is_listening]
    return {address for address, number in ends if int(number, 16) == port}
