"""The Ray cluster that work runs on: of this machine alone, or one that is there."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from caflow_runtime.errors import InputError

PATIENCE_S = 5.0
BACKLOG = 1024
LOOPBACK = "127.0.0.1"
ON_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""With 0, a cluster that is started here has the loopback address and listens there alone, on every system. As an
argument, Ray would replace 127.0.0.1 by another address of this machine."""
TOKEN = "~/.ray/auth_token"
AUTH_MODE = "RAY_AUTH_MODE"
HANDLED = r"Task (MapWorker|ServeController)\S* failed|A worker died or was killed while executing a task"
"""What Ray's daemons say and is no news: what was lost with a worker is done again, and servers are ended."""
EXPOSED = "whoever reaches Ray's ports may run code: close them in the firewall"


@contextmanager
def cluster(address: str | None, metrics_port: int | None = None) -> Iterator[Any]:
    """The `ray` package, connected until the block ends.

    Arguments:
        address: of a cluster that is there: HOST:PORT, or "auto" for the one that this machine belongs to. None starts
            one on this machine, and ends it.
        metrics_port: of Ray's endpoint for Prometheus, where a cluster is started; None is any.

    Raises:
        InputError: if Ray is missing, or there is no such cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # reports to Ray's makers what is run; read at the import
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", HANDLED)
    if address is None:
        os.environ[ON_LOOPBACK] = "0"  # read at the import
    elif _has_token():
        os.environ.setdefault(AUTH_MODE, "token")  # read at the import; Ray itself would set it too late
    ray = _import_ray()
    try:
        _check_reachable(address)
        own = {"include_dashboard": False, "_metrics_export_port": metrics_port} if address is None else {}
        ray.init(address or "local", logging_level="ERROR", log_to_driver=False, **own)
    except (OSError, RuntimeError, ValueError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if address is None:
            raise InputError(f"Ray cannot start here: {why}") from None
        raise InputError(
            f"no Ray cluster at {address}: {why}: start one with `ray start --head`, and have its {TOKEN} here, too"
        ) from None
    try:
        if address is not None and os.environ.get(AUTH_MODE) != "token":
            print(f"caflow: {address} requires no token: {EXPOSED}", file=sys.stderr)
        if address is None and any(node["NodeManagerAddress"] != LOOPBACK for node in ray.nodes()):
            print(f"caflow: this version of Ray does not keep to the loopback address: {EXPOSED}", file=sys.stderr)
        yield ray
    finally:
        ray.shutdown()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        InputError: if the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise InputError(f"port {port} of {host}: {error.strerror}: give another") from None


def _has_token() -> bool:
    named = any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or Path(TOKEN).expanduser().exists()


def _check_reachable(address: str | None) -> None:
    """Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), PATIENCE_S).close()


def _import_ray() -> Any:
    """The package.

    Raises:
        InputError: if it is missing.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise InputError("many machines need Ray: pip install 'caflow-deploy[ray]'") from None
    return ray
