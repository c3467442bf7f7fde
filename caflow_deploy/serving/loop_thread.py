"""An event loop in a thread of its own, so that signals interrupt the main thread only."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Run = Callable[[Any], Any]
"""Function that runs a coroutine in the loop, and returns its result."""


@contextmanager
def loop_thread() -> Iterator[Run]:
    """Yield a function that runs coroutines in the loop. The loop ends with the block."""
    loop = asyncio.new_event_loop()
    running = threading.Thread(target=loop.run_forever, name="loop", daemon=True)
    running.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    try:
        yield run
    finally:
        run(_cancel_others())
        loop.call_soon_threadsafe(loop.stop)
        running.join()
        loop.close()


async def _cancel_others() -> None:
    """Cancel all other tasks of the loop. Tasks remain if a second signal interrupts the end of the servers."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
