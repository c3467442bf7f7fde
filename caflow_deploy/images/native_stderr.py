"""Capture of the messages that C libraries write to standard error.

Such messages do not name the file that they are about. With the captured text, the caller can name it.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile

from caflow_runtime.interruptible import deferring_stops


@contextmanager
def native_stderr() -> Iterator[list[str]]:
    """Yield a list which, after the block, contains the lines that were written to file descriptor 2 during the block.

    The descriptor belongs to the whole process, so other threads must not write to it meanwhile. The progress bar of
    the commands has a descriptor of its own. In the main thread, stops are deferred until the end of the block.
    """
    with deferring_stops():  # an exception outside the inner block would leave the descriptor redirected
        lines: list[str] = []
        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            real = os.dup(2)
        except OSError:  # standard error is closed
            yield lines
            return
        try:
            with TemporaryFile() as kept:
                os.dup2(kept.fileno(), 2)
                try:
                    yield lines
                finally:
                    os.dup2(real, 2)
                    kept.seek(0)
                    lines += filter(None, map(str.strip, kept.read().decode(errors="replace").splitlines()))
        finally:
            os.close(real)
