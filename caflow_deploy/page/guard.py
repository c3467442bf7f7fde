"""Protection of the page against other websites, and of the disk against visitors."""

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse

MAX_BYTES = 2 << 30
"""Total size of the page's files, in bytes. When they take more, no file can be uploaded until old ones are deleted."""
EVERYWHERE = "0.0.0.0"
"""Address of a server that listens on all networks."""
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
UPLOAD = "/upload"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Guard:
    """ASGI middleware that refuses requests of other websites, and uploads when the page's files take too much room.

    A website that a visitor opens in the same browser can send requests to this machine. Browsers name it in the header
    `Origin`. If its domain name leads to this machine (DNS rebinding), they name it in the header `Host`.

    Arguments:
        host: address that the page listens on. If these are all addresses of the machine, every name is allowed.
        folder: folder of the page's files.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], host: str, folder: Path) -> None:
        self._app = app
        self._folder = folder
        self._names = None if host == EVERYWHERE else {host.lower(), *THIS_MACHINE}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        answer = self._app if refusal is None else PlainTextResponse(refusal[1], refusal[0])
        await answer(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return the status and the text with which a request is refused; None if it is not."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if self._names is not None and _name_in(host) not in self._names:
            return 403, "this page answers only under the address that it listens on; --host 0.0.0.0 allows all names"
        if self._names is not None and origin is not None and origin.partition("://")[2] != host:
            return 403, "requests of other websites are refused"
        if scope["method"] == "POST" and scope["path"].endswith(UPLOAD) and self._bytes() > MAX_BYTES:
            return 507, "the page's files take too much room; restart the page to delete them"
        return None

    def _bytes(self) -> int:
        """Return the total size of the page's files."""
        total = 0
        for path in self._folder.rglob("*"):
            with suppress(FileNotFoundError):  # Gradio deletes old files meanwhile
                total += path.stat().st_size if path.is_file() else 0
        return total


def _name_in(host: str) -> str | None:
    """Return the name or address in a header `Host`, without the port and in lower case; None if it has none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
