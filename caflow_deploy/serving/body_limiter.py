"""Reading of request bodies, with limits on time, number and memory, so that a slow client does not block others."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from caflow_deploy.serving.failures import Busy, TooLarge, TooSlow

ARRIVES_S = 30.0
"""Timeout for a whole body, in seconds."""
MAX_ARRIVING = 1024
"""Maximum number of bodies that arrive at the same time."""
MAX_HELD = 32
"""Memory limit for all bodies, as a number of bodies of the largest size. More bodies fit if they are smaller."""
MAX_MESSAGES = 24
"""Maximum number of gRPC messages that are read at the same time; further ones wait. The rest of `MAX_HELD` remains
for bodies that have arrived, and for HTTP."""


@dataclass
class BodyLimiter:
    """Limits and counters for all request bodies of a server. Must be used in a single event loop."""

    largest: int
    """Maximum size of a body, in bytes."""
    seconds: float = ARRIVES_S
    """Timeout for a whole body, in seconds."""
    most: int = MAX_ARRIVING
    """Maximum number of bodies that arrive at the same time."""
    arriving: int = 0
    held: int = 0
    """Bytes of all bodies whose requests are not answered yet."""
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_MESSAGES))
    """Turns of the gRPC messages that are read."""

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
            async with self._arrives():
                async for part in parts:
                    self._check(len(body), len(part))
                    body += part
                    self.held += len(part)
            yield body
        finally:
            self.held -= len(body)

    @asynccontextmanager
    async def read_message(self, receive: Callable[[], Awaitable[bytes]]) -> AsyncIterator[bytes]:
        """Read one message of gRPC, which must have at most `largest` bytes. The block should last as that of `read`.

        gRPC holds the parts of a message until all have arrived. Until then, the message counts as `largest` bytes.

        Raises:
            Busy: if too many messages are arriving or waiting for answers.
            TooSlow: if the message does not arrive in time.
        """
        counted = 0
        try:
            async with self._arrives(), self.turns:
                self._check(0, self.largest)
                counted = self.largest
                self.held += counted
                message = await receive()
                self.held += len(message) - counted
                counted = len(message)
            yield message
        finally:
            self.held -= counted

    def check_length(self, stated: str | None) -> None:
        """Check the size that the client states before it sends the body.

        Arguments:
            stated: value of the header Content-Length; None if it is missing.

        Raises:
            TooLarge: if the body would be larger than `largest`.
            Busy: if there is no memory for it.
        """
        self._check(0, int(stated or 0))

    @asynccontextmanager
    async def _arrives(self) -> AsyncIterator[None]:
        if self.arriving >= self.most:
            raise Busy(f"too many requests: {self.most} are arriving already; try again later")
        self.arriving += 1
        try:
            async with asyncio.timeout(self.seconds):
                yield
        except TimeoutError:
            raise TooSlow(f"the request did not arrive within {self.seconds:g} s: send it faster") from None
        finally:
            self.arriving -= 1

    def _check(self, there: int, more: int) -> None:
        if there + more > self.largest:
            raise TooLarge(f"the request must have at most {self.largest} bytes")
        if self.held + more > MAX_HELD * self.largest:
            raise Busy("too many requests: those that wait use all memory for requests; try again later")
