r"""Paths as text that any JSON reader accepts, and back; and paths without links.

On Linux, file names are bytes that need not be valid UTF-8, but JSON must be UTF-8. A byte that is not part of valid
UTF-8 is written as a backslash, `x` and two hexadecimal digits, such as `\xe9`. If a name literally contains four such
characters, their backslash is written as `\x5c`. All other names are unchanged. So no two names have the same text.

Text for people also has its control characters escaped, because a terminal would obey them.
"""

import os
import re
from pathlib import Path

ESCAPED = re.compile(rb"\\x(5c|[89a-f][0-9a-f])")
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, among them line breaks and those that reverse the direction of text; bytes that are not UTF-8."""
SURROGATE_OF_BYTE = 0xDC00
"""Python reads a byte of a name that is not UTF-8 as the character of this code plus the byte."""


def as_text(path: str | os.PathLike[str]) -> str:
    """Return a path, or a message that contains paths, as valid Unicode text for JSON and for people."""
    escaped = ESCAPED.sub(rb"\\x5cx\1", os.fsencode(path))
    return escaped.decode("utf-8", "backslashreplace")


def as_path(text: str) -> str:
    """Return the path from the text that `as_text` returned."""
    escaped = text.encode("utf-8", "surrogatepass")
    return os.fsdecode(ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), escaped))


def printable(text: str) -> str:
    """Return a line of text for people, such as a message that contains paths, without control characters."""
    return UNPRINTABLE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    byte = code - SURROGATE_OF_BYTE if code > SURROGATE_OF_BYTE else code
    return f"\\x{byte:02x}" if byte < 0x100 else f"\\u{code:04x}"


def real_path(path: str | Path) -> Path:
    """Return the path with all links resolved. A link that leads to itself stays as it is.

    `Path.resolve` of Python 3.11 and 3.12 raises a RuntimeError for such a link.
    """
    return Path(os.path.realpath(path))
