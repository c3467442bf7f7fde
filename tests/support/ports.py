"""Free and listening TCP ports of this machine, and a server of files."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from random import SystemRandom

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
"""Number of this pytest-xdist worker, from 0."""
FIRST, END = 20_000, 32_768
"""Range of the ports. Linux assigns only later ones itself, so no connection takes a port before it is used."""
NUMBERS = count(SystemRandom().randrange(END))
"""Numbers of ports to try. They begin anywhere, so that two test runs rarely try the same port."""


def free_port() -> int:
    """Return a free port of the loopback address. Two pytest-xdist workers never get the same port."""
    while True:
        port = FIRST + WORKERS * (next(NUMBERS) % ((END - FIRST) // WORKERS)) + WORKER
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def listening(port: int) -> set[str]:
    """Return the IPv4 and IPv6 addresses that listen on a port, in hexadecimal as in Linux's /proc/net/tcp."""
    tables = [path for path in map(Path, ("/proc/net/tcp", "/proc/net/tcp6")) if path.exists()]
    rows = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    is_listening = "0A"
    ends = [row[1].split(":") for row in rows if row[3] == is_listening]
    return {address for address, number in ends if int(number, 16) == port}


class SilentHandler(SimpleHTTPRequestHandler):
    """Serves files without a log of the requests."""

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving_files(folder: Path) -> Iterator[str]:
    """Serve the files of a folder over HTTP, and yield the address of the folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SilentHandler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
