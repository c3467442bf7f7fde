"""What libraries written in C say on standard error, so that it can be said of which file they say it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile


@contextmanager
def native_stderr() -> Iterator[list[str]]:
    """Yield a list that holds, after the block, the lines that were written to file descriptor 2 in it.

    The descriptor belongs to the whole process, so this is for processes whose other threads say nothing in the
    meantime. A progress bar may: lines with control characters go where they would have gone.
    """
    lines: list[str] = []
    sys.stderr.flush()
    try:
        real = os.dup(2)
    except OSError:  # it is closed
        yield lines
        return
    with TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(real, 2)
            os.close(real)
            kept.seek(0)
            for line in kept.read().splitlines(keepends=True):
                if (text := line.decode(errors="replace").strip()).isprintable():
                    lines += [text] * bool(text)
                else:
                    os.write(2, line)
