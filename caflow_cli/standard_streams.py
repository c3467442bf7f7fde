"""Standard streams that are closed, full, or whose reader has gone away, and lines that fit a terminal.

A terminal itself breaks lines inside words.
"""

import os
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click

from caflow_runtime.file_io.paths import printable

LAST_STANDARD_DESCRIPTOR = 2
INDENT = "  "
"""Start of the rows that continue a line."""


def replace_closed_streams() -> None:
    """Occupy the descriptors of closed standard streams. Messages to a closed standard error are discarded.

    Otherwise the next file that is opened would get such a descriptor, and what libraries print would be written to it.
    `sys.stdin` and `sys.stdout` stay None if they are closed.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= LAST_STANDARD_DESCRIPTOR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - it stays open until the process ends


def flush(stream: TextIO | None) -> OSError | None:
    """Write what a stream has buffered. If this fails, return the error, and discard all that is printed later.

    Otherwise Python would try again when the process ends, and end with the exit code 120.
    """
    if stream is None:
        return None
    try:
        stream.flush()
    except OSError as error:
        discarding = os.open(os.devnull, os.O_WRONLY)
        os.dup2(discarding, stream.fileno())
        os.close(discarding)
        return error
    return None


@contextmanager
def naming_stdout() -> Iterator[None]:
    """Name standard output in the error of a block that prints to it. The error of a full disk names no file."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or "standard output"
        raise


def print_message(line: str) -> None:
    """Print a line for people to standard error. It is lost if standard error cannot be written."""
    try:
        click.echo(wrapped(line, sys.stderr), err=True)
    except OSError:
        flush(sys.stderr)


def is_terminal(stream: Any) -> bool:
    """Return whether a standard stream is a terminal. It is None if it was closed before the command started."""
    return stream is not None and stream.isatty()


def wrapped(line: str, stream: Any) -> str:
    """Return a line without control characters, and with breaks between its words if the terminal is too narrow.

    Longer words than the terminal is wide, such as paths, stay whole, so that they can be copied.
    """
    line = printable(line)
    columns = os.get_terminal_size(stream.fileno()).columns if is_terminal(stream) else 0
    if not 0 < columns < len(line):
        return line
    wrapper = textwrap.TextWrapper(columns, subsequent_indent=INDENT, replace_whitespace=False)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.fill(line)
