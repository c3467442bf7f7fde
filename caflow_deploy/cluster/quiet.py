"""What Ray says on its own, kept off standard output, and without what is known to be harmless."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from threading import Thread

HARMLESS = (b"has constructor arguments in the object store",)
"""Of Ray's C++ part. That the arguments of Ray Data's actors could be lost; Ray Data holds them (Ray's issue 53727)."""
PATIENCE_S = 1.0


@contextmanager
def quiet() -> Iterator[None]:
    """Begin before Ray is imported. What Python writes goes to standard error, line by line as it is; what C++ writes,
    too, but for harmless lines.
    """
    sys.stderr.flush()
    real = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    copying = Thread(target=_copy, args=(reading, real), daemon=True)
    copying.start()
    try:
        with (
            os.fdopen(os.dup(real), "w", buffering=1, encoding="utf-8", errors="backslashreplace") as stderr,
            redirect_stderr(stderr),
            redirect_stdout(stderr),
        ):
            yield
    finally:
        os.dup2(real, 2)  # ends the pipe, where no process that Ray started has it still
        copying.join(PATIENCE_S)


def _copy(reading: int, real: int) -> None:
    with os.fdopen(reading, "rb") as lines, os.fdopen(real, "wb", buffering=0, closefd=False) as out:
        for line in lines:
            if not any(text in line for text in HARMLESS):
                out.write(line)
