"""A worker process as its server sees it. Everything here runs in the server's event loop."""

import asyncio

from caflow_deploy.jobs.child_process import ChildProcess
from caflow_deploy.serving.worker_process import Batch, Reply, WorkerSettings, run


class WorkerFailed(Exception):
    """A worker process cannot open the bundle, or died."""


class Worker:
    """One worker. `start` starts its process, and starts it again after the process has ended."""

    def __init__(self, number: int, settings: WorkerSettings) -> None:
        self.number = number
        self.is_up = False
        """Whether the process has opened the bundle and runs."""
        self.is_busy = False
        self._process = ChildProcess(run, settings, number)
        self._reply: asyncio.Task[Reply | str | None] | None = None
        """Next message of the process; None if the process ends before it sends one."""

    @property
    def next_message(self) -> "asyncio.Task[Reply | str | None]":
        """Next message. As an idle worker sends none, this is done when the process has died."""
        assert self._reply is not None
        return self._reply

    async def start(self) -> None:
        """Start the process, and wait until it has opened the bundle.

        Raises:
            WorkerFailed: if it cannot.
        """
        self._process.start()
        self._expect()
        message = await self.next_message
        if isinstance(message, list):
            self.is_up = True
            self._expect()
            return
        why = message or await asyncio.to_thread(self._process.why_it_died)
        self.kill()
        raise WorkerFailed(why)

    async def compute(self, batch: Batch, seconds: float | None) -> Reply:
        """Return the answers to a batch.

        Raises:
            WorkerFailed: if the process dies, or takes longer than `seconds`. It must then be killed.
        """
        self.is_busy = True
        try:
            async with asyncio.timeout(seconds):
                await asyncio.to_thread(self._process.connection.send, batch)
                message = await self.next_message
            if isinstance(message, list):
                self._expect()
                return message
            why = "the process died"
        except TimeoutError:
            why = f"the process was killed, because a batch took longer than {seconds:g} s"
        except Exception as error:  # a message may have been sent in part, so the connection cannot be used any more
            why = f"the process cannot be reached: {error!r}"
        finally:
            self.is_busy = False
        raise WorkerFailed(why)

    def kill(self) -> None:
        """End the process, if it runs."""
        self.is_up = False
        if self._reply is not None:
            self._reply.cancel()
        self._process.kill()

    async def wait_for_end(self) -> None:
        """Wait until a killed process has ended."""
        await asyncio.to_thread(self._process.wait_for_end)

    def _expect(self) -> None:
        self._reply = asyncio.create_task(self._receive())

    async def _receive(self) -> Reply | str | None:
        """Return the next message. A thread reads it once it begins to arrive, because it may be large."""
        connection = self._process.connection  # that of this process, also if another one is started
        loop, arrives = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(connection, arrives.set)
        try:
            await arrives.wait()
        finally:
            loop.remove_reader(connection)
        try:
            message: Reply | str = await asyncio.to_thread(connection.recv)
        except (EOFError, MemoryError, OSError):
            return None
        return message
