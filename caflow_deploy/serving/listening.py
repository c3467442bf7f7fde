"""Listening sockets."""

import socket

from caflow_runtime.errors import InputError

BACKLOG = 1024
"""Maximum number of connections that wait to be accepted."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        InputError: if the address is in use or does not exist.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise InputError(
            f"cannot listen on port {port} of {host}: {error.strerror}; give another port or host"
        ) from None
