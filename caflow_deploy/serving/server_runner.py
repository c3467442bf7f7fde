"""HTTP server of an `InferenceApp`."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import uvicorn

from caflow_deploy.serving.inference_app import InferenceApp
from caflow_deploy.serving.listening import listen
from caflow_deploy.serving.loop_thread import Run

IDLE_S = 90
"""Timeout for a connection without a request, in seconds."""


@dataclass(frozen=True)
class ServerRunner:
    """HTTP server of handlers, and the address that it listens on."""

    front: InferenceApp
    host: str
    port: int

    @property
    def text(self) -> str:
        """URL, as users read it. An IPv6 address gets brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @contextmanager
    def open(self, run: Run) -> Iterator[None]:
        """Serve until the block ends. Requests that have arrived by then are still answered.

        Raises:
            InputError: if the address is in use or does not exist.
        """
        server, serving = run(self._start())
        try:
            yield
        finally:
            run(self._end(server, serving))

    async def _start(self) -> tuple[uvicorn.Server, asyncio.Task[None]]:
        with ExitStack() as undoing:
            listening = undoing.enter_context(listen(self.host, self.port))
            server = uvicorn.Server(self._config())
            serving = asyncio.create_task(server.serve([listening]))
            while not server.started and not serving.done():
                await asyncio.sleep(0.01)
            if serving.done():
                await serving  # it failed: raise its error
            undoing.pop_all()  # from now on, the server closes the socket
            return server, serving

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            self.front,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=int(self.front.deadline) + 1,
        )

    async def _end(self, server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
        server.should_exit = True
        await serving
