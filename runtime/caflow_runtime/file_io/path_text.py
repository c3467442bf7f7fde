r"""Conversion of paths to text that any JSON reader accepts, and back.

On Linux, file names are bytes that need not be valid UTF-8, but JSON must be UTF-8. A byte that is not part of valid
UTF-8 is written as a backslash, `x` and two hexadecimal digits, such as `\xe9`. If a name literally contains four such
characters, their backslash is written as `\x5c`. All other names are unchanged. So no two names have the same text.
"""

import os
import re

ESCAPED = re.compile(rb"\\x(5c|[89a-f][0-9a-f])")


def as_text(path: str | os.PathLike[str]) -> str:
    """Return a path, or a message that contains paths, as valid Unicode text for JSON and for people."""
    escaped = ESCAPED.sub(rb"\\x5cx\1", os.fsencode(path))
    return escaped.decode("utf-8", "backslashreplace")


def as_path(text: str) -> str:
    """Return the path from the text that `as_text` returned."""
    escaped = text.encode("utf-8", "surrogatepass")
    return os.fsdecode(ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), escaped))
