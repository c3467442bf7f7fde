"""Bodies of requests while they arrive, within limits of their own: a sender that stops half-way blocks nobody."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from caflow_deploy.serving.open_inference import Busy, TooLarge, TooSlow

ARRIVES_S = 30.0
MOST_ARRIVING = 1024
"""Bodies that arrive at the same time; each may take as long as `ARRIVES_S`."""
MOST_HELD = 32
"""Of the largest bodies, so many are kept in memory at the same time, or more of smaller ones."""


@dataclass
class Bodies:
    """All bodies of a server. Used in one event loop."""

    largest: int
    """Bytes that a body may have."""
    seconds: float = ARRIVES_S
    """A body must arrive within this time."""
    most: int = MOST_ARRIVING
    arriving: int = 0
    held: int = 0
    """Bytes of all bodies whose requests are not answered yet."""

    @asynccontextmanager
    async def read(self, parts: AsyncIterable[bytes]) -> AsyncIterator[bytearray]:
        """The whole body; the block should last until the request is answered.

        Raises:
            Busy: if too many bodies arrive, or wait for answers.
            TooLarge, TooSlow
        """
        body = bytearray()
        try:
            with self._arrives():
                try:
                    async with asyncio.timeout(self.seconds):
                        async for part in parts:
                            self._check(len(body), len(part))
                            body += part
                            self.held += len(part)
                except TimeoutError:
                    raise TooSlow(f"the request did not arrive within {self.seconds:g} s: send it faster") from None
            yield body
        finally:
            self.held -= len(body)

    def check_length(self, stated: str | None) -> None:
        """Refuse a body that says how large it is before it arrives.

        Raises:
            TooLarge
        """
        self._check(0, int(stated or 0))

    @contextmanager
    def _arrives(self) -> Iterator[None]:
        if self.arriving >= self.most:
            raise Busy(f"{self.most} requests are arriving already: try again later")
        self.arriving += 1
        try:
            yield
        finally:
            self.arriving -= 1

    def _check(self, there: int, more: int) -> None:
        if there + more > self.largest:
            raise TooLarge(f"the request: wanted at most {self.largest} bytes")
        if self.held + more > MOST_HELD * self.largest:
            raise Busy("the requests that wait take too much memory already: try again later")
