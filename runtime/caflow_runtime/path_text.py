r"""Paths as text that any JSON reader accepts, and back again.

File names are bytes on Linux and need not be UTF-8; JSON must be. A byte that is not part of valid UTF-8 is written as
a backslash, `x` and two hexadecimal digits, such as `\xe9`. In a name that literally holds four such characters, their
backslash is written as `\x5c`. All other names are written as they are. So no two names have the same text.
"""

import os
import re

ESCAPED = re.compile(rb"\\x(5c|[89a-f][0-9a-f])")


def as_text(path: str | os.PathLike[str]) -> str:
    r"""Return a path as valid Unicode text, for JSON and for people.

    Also for messages that contain paths.
    """
    escaped = ESCAPED.sub(rb"\\x5cx\1", os.fsencode(path))
    return escaped.decode("utf-8", "backslashreplace")


def as_path(text: str) -> str:
    """Return the path that `as_text` wrote."""
    escaped = text.encode("utf-8", "surrogatepass")
    return os.fsdecode(ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), escaped))
