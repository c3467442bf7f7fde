"""Answers that end when the client who waits for them has left."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect

Answer = TypeVar("Answer")


async def unless_gone(receive: Callable[[], Awaitable[Any]], answer: Awaitable[Answer]) -> Answer:
    """Return the answer. It is cancelled if the client disconnects.

    Raises:
        ClientDisconnect: if the client disconnects.
    """

    async def leave() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    answering, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(leave())
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientDisconnect
        return answering.result()
    finally:
        answering.cancel()
        leaving.cancel()
