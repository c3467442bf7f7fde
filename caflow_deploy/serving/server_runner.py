"""HTTP and gRPC servers of a `InferenceApp`."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from caflow_deploy.serving.inference_app import InferenceApp
from caflow_deploy.serving.listening import listen
from caflow_deploy.serving.loop_thread import Run
from caflow_runtime.errors import InputError

HEADERS_S = 10.0
"""Timeout for the headers of a request, in seconds since the connection or the request began."""
IDLE_S = 90
"""Timeout for a connection without a request, in seconds."""


class HeaderTimeoutProtocol(H11Protocol):
    """HTTP protocol that closes a connection if headers do not arrive in time. Uvicorn has no option for this."""

    waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the timeout for headers."""
        super().connection_made(transport)
        self._expect(True)

    def data_received(self, data: bytes) -> None:
        """Keep the timeout while headers are incomplete, and cancel it once they have arrived."""
        super().data_received(data)
        self._expect(self.conn.their_state is h11.IDLE)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timeout."""
        super().connection_lost(exc)
        self._expect(False)

    def _expect(self, headers: bool) -> None:
        if headers and self.waiting is None:
            self.waiting = self.loop.call_later(HEADERS_S, self.transport.close)
        elif not headers and self.waiting is not None:
            self.waiting.cancel()
            self.waiting = None


@dataclass(frozen=True)
class ServerRunner:
    """Addresses that a front listens on."""

    front: InferenceApp
    host: str
    port: int
    grpc_port: int | None
    """Port for gRPC; None disables gRPC."""

    @property
    def text(self) -> str:
        """URLs for HTTP and gRPC, as users read them."""
        also = f" and grpc://{self._place(self.grpc_port)}" if self.grpc_port else ""
        return f"http://{self._place(self.port)}{also}"

    @contextmanager
    def open(self, run: Run) -> Iterator[None]:
        """Serve until the block ends. Requests that have arrived by then are still answered.

        Raises:
            InputError: if an address is in use or does not exist.
        """
        servers = run(self._start())
        try:
            yield
        finally:
            run(self._end(*servers))

    async def _start(self) -> tuple[Any, Any, Any]:
        async with AsyncExitStack() as undoing:
            listening = undoing.enter_context(listen(self.host, self.port))
            calls = await self._start_grpc() if self.grpc_port else None
            if calls is not None:
                undoing.push_async_callback(calls.stop, None)
            server = uvicorn.Server(self._http_config())
            serving = asyncio.create_task(server.serve([listening]))
            while not server.started and not serving.done():
                await asyncio.sleep(0.01)
            if serving.done():
                await serving  # it failed: raise its error
            undoing.pop_all()  # from now on, `_end` ends both servers
            return server, serving, calls

    def _http_config(self) -> uvicorn.Config:
        return uvicorn.Config(
            self.front,
            http=HeaderTimeoutProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=int(self.front.deadline) + 1,
        )

    def _place(self, port: int | None) -> str:
        """Return HOST:PORT. An IPv6 address gets brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{port}"

    async def _start_grpc(self) -> Any:
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self.front.bodies.largest),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                ("grpc.http2.bdp_probe", 0),  # it would let each call that waits for its turn send megabytes
                ("grpc.server_handshake_timeout_ms", int(1000 * HEADERS_S)),
                ("grpc.max_connection_idle_ms", 1000 * IDLE_S),
            ]
        )
        server.add_generic_rpc_handlers((self.front.grpc_handlers(),))
        try:
            server.add_insecure_port(self._place(self.grpc_port))
        except RuntimeError:
            raise InputError(
                f"cannot listen on port {self.grpc_port} of {self.host}: the port is in use, or the host is not an "
                "address of this machine; give another port or host"
            ) from None
        await server.start()
        return server

    async def _end(self, server: uvicorn.Server, serving: asyncio.Task[None], calls: Any) -> None:
        """End both servers at the same time."""
        server.should_exit = True
        if calls is not None:
            await calls.stop(self.front.deadline)
        await serving
