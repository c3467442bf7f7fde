"""Connection to a Ray cluster: an existing one, or one that is started on this machine."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from caflow_cli.stops import Terminated
from caflow_runtime.errors import InputError
from caflow_runtime.extras import import_optional

PATIENCE_S = 5.0
"""Timeout for connecting to a cluster, in seconds."""
LOOPBACK = "127.0.0.1"
ON_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Environment variable of Ray. With 0, a cluster that is started here listens on the loopback address only, on every
operating system. The address cannot be an argument: Ray would replace 127.0.0.1 by another address of this machine."""
TOKEN = "~/.ray/auth_token"
AUTH_MODE = "RAY_AUTH_MODE"
HANDLED = "A worker died or was killed while executing a task"
"""Messages of Ray's daemons that are hidden. They report lost workers, whose work is retried."""
EXPOSED = "anyone who can reach Ray's ports can run code on its machines: block these ports in the firewall"


@contextmanager
def cluster(address: str | None) -> Iterator[Any]:
    """Yield the `ray` package, connected to a cluster until the block ends.

    Arguments:
        address: HOST:PORT of an existing cluster, or "auto" for the cluster that this machine belongs to. None starts
            a cluster on this machine and ends it with the block.

    Raises:
        InputError: if Ray is not installed, or the cluster cannot be reached or started.
        Terminated: if SIGTERM arrives meanwhile.
    """
    # Ray reads all these variables when it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", HANDLED)
    if address is None:
        os.environ[ON_LOOPBACK] = "0"
    elif _has_token():
        os.environ.setdefault(AUTH_MODE, "token")  # Ray itself would set it too late
    ray = import_optional("ray", "this requires Ray", "ray>=2.54")
    try:
        _check_reachable(address)
        own = {"include_dashboard": False} if address is None else {}
        ray.init(address or "local", logging_level="ERROR", log_to_driver=False, **own)
    except SystemExit as stop:
        if stop.code == signal.SIGTERM:  # the handler that Ray sets when it begins
            raise Terminated from None
        raise
    except (OSError, RuntimeError, ValueError) as error:
        why = lines_of(error)[0]
        if address is None:
            raise InputError(f"Ray cannot start here: {why}") from None
        raise InputError(
            f"no Ray cluster at {address}: {why}; start one with `ray start --head`, and copy its {TOKEN}, if there is "
            "one, to this machine"
        ) from None
    try:
        if address is not None and os.environ.get(AUTH_MODE) != "token":
            print(f"caflow: the cluster {address} requires no token: {EXPOSED}", file=sys.stderr)
        if address is None and any(node["NodeManagerAddress"] != LOOPBACK for node in ray.nodes()):
            print(
                f"caflow: this version of Ray does not listen on the loopback address only: {EXPOSED}", file=sys.stderr
            )
        yield ray
    finally:
        ray.shutdown()


def lines_of(error: Exception) -> list[str]:
    """Return the lines of an error of Ray; its type if it has no text.

    The text may contain the tracebacks of other processes. Its last line then names the cause.
    """
    return str(error).strip().splitlines() or [type(error).__name__]


def _has_token() -> bool:
    named = any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or Path(TOKEN).expanduser().exists()


def _check_reachable(address: str | None) -> None:
    """Check that a server listens at HOST:PORT. Ray itself would retry for minutes.

    Raises:
        OSError: if none does.
    """
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), PATIENCE_S).close()
