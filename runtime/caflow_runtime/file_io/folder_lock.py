"""Lock of a folder, so that only one process at a time writes to it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"
"""Name of the locked file in the folder."""


@contextmanager
def folder_lock(folder: Path) -> Iterator[bool]:
    """Lock an existing folder until the block ends. Yield False if another process has locked it.

    The system releases the lock when the process ends, even if the process is killed.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        with suppress(OSError):  # Remove the file before the release: afterwards it may be the lock of another process.
            (folder / LOCK).unlink()
        lock.release()
