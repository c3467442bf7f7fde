"""Lines for people, with breaks between their words. A terminal itself breaks lines inside words."""

import os
import textwrap
from typing import Any

from caflow_runtime.file_io.path_text import printable

INDENT = "  "
"""Start of the rows that continue a line."""


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
