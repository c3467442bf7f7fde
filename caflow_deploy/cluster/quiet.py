"""Redirection of Ray's own messages to standard error, without those that are known to be harmless."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from threading import Thread

HARMLESS = (b"has constructor arguments in the object store",)
"""Parts of harmless messages from Ray's C++ code. This one warns that constructor arguments of actors could be lost,
but Ray Data keeps them (issue 53727 of Ray)."""
PATIENCE_S = 1.0
"""Time to wait at the end for messages that are still being copied, in seconds."""


@contextmanager
def quiet() -> Iterator[None]:
    """Send everything that is printed in the block to standard error. Must be entered before Ray is imported.

    Output of Python code is written unchanged, line by line. Output of C++ code is written without harmless lines.
    """
    sys.stderr.flush()
    real = os.dup(2)
    try:
        reading, writing = os.pipe()
        os.dup2(writing, 2)
        os.close(writing)
        # The thread may outlive the block, so it gets a descriptor of its own.
        copying = Thread(target=_copy, args=(reading, os.dup(real)), daemon=True)
        copying.start()
        try:
            with (
                os.fdopen(os.dup(real), "w", buffering=1, encoding="utf-8", errors="backslashreplace") as stderr,
                redirect_stderr(stderr),
                redirect_stdout(stderr),
            ):
                yield
        finally:
            os.dup2(real, 2)  # closes the pipe, unless a process that Ray started still holds it
            copying.join(PATIENCE_S)
    finally:
        os.close(real)


def _copy(reading: int, writing: int) -> None:
    """Copy lines that are not harmless from one descriptor to another, and close both at the end."""
    with os.fdopen(reading, "rb") as lines, os.fdopen(writing, "wb", buffering=0) as out:
        for line in lines:
            if not any(text in line for text in HARMLESS):
                out.write(line)
