"""Deadlines of requests: the end of the server's --deadline, or of the client's own timeout if that is earlier."""

import asyncio
from collections.abc import Mapping
from typing import Any

from caflow_deploy.serving.open_inference import MAX_INT64
from caflow_runtime.errors import InputError

MICROSECONDS = 1e6


def shorten(limit: asyncio.Timeout, parameters: Mapping[str, Any]) -> float:
    """Return the deadline of a request, in seconds of `time.monotonic`. The limit ends no later than it.

    Arguments:
        limit: limit of the server, which began when the request arrived.
        parameters: parameters of the request.

    Raises:
        InputError: as `client_timeout` does.
    """
    until = limit.when()  # by the clock of the loop, which is `time.monotonic`
    assert until is not None
    if seconds := client_timeout(parameters):
        until = min(until, asyncio.get_running_loop().time() + seconds)
        limit.reschedule(until)
    return until


def client_timeout(parameters: Mapping[str, Any]) -> float | None:
    """Return the timeout that a client requests, in seconds. None if there is none.

    Raises:
        InputError: if the parameter is not a number of microseconds.
    """
    timeout = parameters.get("timeout", 0)
    if type(timeout) is not int or not 0 <= timeout <= MAX_INT64:  # isinstance would accept a boolean
        raise InputError(f"timeout must be 0 to {MAX_INT64} microseconds")
    return timeout / MICROSECONDS or None
