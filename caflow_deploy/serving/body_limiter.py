"""Limits of requests: the memory that their bodies take together, and the time until their answers."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from caflow_deploy.serving.failures import Busy, TooLarge, TooSlow
from caflow_deploy.serving.open_inference import MAX_INT64
from caflow_runtime.errors import InputError

ARRIVES_S = 30.0
"""Timeout for a whole body, in seconds."""
MAX_ARRIVING = 1024
"""Maximum number of bodies that arrive at the same time."""
MAX_HELD = 32
"""Number of bodies of the largest size for which there is memory."""
MICROSECONDS = 1e6


@dataclass
class BodyLimiter:
    """Limits and counters for all request bodies of a server. Must be used in a single event loop."""

    largest: int
    """Maximum size of a body, in bytes."""
    seconds: float = ARRIVES_S
    """Timeout for a whole body, in seconds."""
    most: int = MAX_ARRIVING
    """Maximum number of bodies that arrive at the same time."""
    most_held: int = MAX_HELD
    """Memory limit for all bodies, as a number of bodies of the largest size. More bodies fit if they are smaller."""
    arriving: int = 0
    held: int = 0
    """Bytes of all bodies whose requests are not answered yet."""

    @asynccontextmanager
    async def read(self, parts: AsyncIterable[bytes]) -> AsyncIterator[bytearray]:
        """Read a whole body. The block should last until the request is answered, because the body counts until then.

        Raises:
            Busy: if too many bodies are arriving or waiting for answers.
            TooLarge: if the body is larger than `largest`.
            TooSlow: if the body does not arrive in time.
        """
        body = bytearray()
        try:
            await self._receive(parts, body)
            yield body
        finally:
            self.held -= len(body)

    def check_headers(self, headers: Mapping[str, str]) -> None:
        """Check what the client states of the body before it sends it.

        Raises:
            InputError: if the body is compressed.
            TooLarge: if it would be larger than `largest`.
            Busy: if there is no memory for it.
        """
        if encoding := headers.get("Content-Encoding"):
            raise InputError(f"Content-Encoding is not supported: send the body uncompressed; got {encoding}")
        self._check(0, int(headers.get("Content-Length", "0")))

    async def _receive(self, parts: AsyncIterable[bytes], body: bytearray) -> None:
        """Append all parts to the body."""
        if self.arriving >= self.most:
            raise Busy(f"too many requests: {self.most} are arriving already; try again later")
        self.arriving += 1
        try:
            async with asyncio.timeout(self.seconds):
                async for part in parts:
                    self._check(len(body), len(part))
                    body += part
                    self.held += len(part)
        except TimeoutError:
            raise TooSlow(f"the request did not arrive within {self.seconds:g} s: send it faster") from None
        finally:
            self.arriving -= 1

    def _check(self, there: int, more: int) -> None:
        if there + more > self.largest:
            raise TooLarge(f"the request must have at most {self.largest} bytes")
        if self.held + more > self.most_held * self.largest:
            raise Busy("too many requests: those that wait use all memory for requests; try again later")


def shorten_deadline(limit: asyncio.Timeout, parameters: Mapping[str, Any]) -> float:
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
