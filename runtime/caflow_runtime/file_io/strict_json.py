"""Strict reading of JSON from untrusted files. The size is limited, and ambiguous JSON is rejected.

`docs/reference/bundle.md` lists the rules. The C++ runtime has the same rules, in `strict_json.cpp`.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

MAX_BYTES = 16 * 2**20
"""Maximum length of a file that is read at once, in bytes."""
MAX_BYTES_OF_A_LINE = 2**20
"""Maximum length of a line, in bytes."""
DEEPEST = 32
"""Maximum nesting depth of objects and arrays."""
SMALLEST_INTEGER, LARGEST_INTEGER = -(2**63), 2**63 - 1
SHOWN = 24
"""Maximum number of characters of a rejected number or name in a message."""

Kind = TypeVar("Kind")


class WrongJson(ValueError):
    """A text is not valid JSON by the rules of this module, or its contents have the wrong type.

    The message does not contain the name of a file.
    """


def read_json(path: Path, kind: type[Kind], most_bytes: int = MAX_BYTES) -> Kind:
    """Return the contents of a JSON file, converted to `kind`: a struct or any other type that msgspec supports.

    Raises:
        WrongJson
        OSError: if the file cannot be read.
    """
    if path.is_fifo():  # reading would wait for a writer
        raise WrongJson("expected a file, got a pipe")
    with path.open("rb") as file:
        text = file.read(most_bytes + 1)
    if len(text) > most_bytes:
        raise WrongJson(f"the file must have at most {most_bytes} bytes; it has more")
    return parse_json(text, kind)


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, including line ends.

    Raises:
        WrongJson: if a line is longer than the limit.
        OSError: if a file cannot be read or written.
    """
    with path.open("rb") as file:
        while line := file.readline(MAX_BYTES_OF_A_LINE + 1):
            if len(line) > MAX_BYTES_OF_A_LINE:
                raise WrongJson(f"a line must have at most {MAX_BYTES_OF_A_LINE} bytes; this line has more")
            yield line


def parse_json(text: bytes, kind: type[Kind]) -> Kind:
    """Return the contents of a JSON text, converted to `kind`.

    Raises:
        WrongJson
    """
    try:
        value = json.loads(
            text.decode(),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError as error:
        raise WrongJson(f"not valid JSON: the text must be UTF-8; {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise WrongJson(f"not valid JSON: {error}") from None
    except RecursionError:
        raise WrongJson(f"must have at most {DEEPEST} levels of nesting; got more") from None
    _check_depth(value)
    if b"\\u" in text:
        _check_unicode(value)
    return convert(value, kind)


def convert(value: Any, kind: type[Kind]) -> Kind:
    """Return a JSON value (objects, arrays and so on), converted to `kind`.

    Raises:
        WrongJson: if the types do not fit; the message names the field.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise WrongJson(str(error)) from None


def _object(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(fields)
    if len(found) < len(fields):
        [(name, _)] = Counter(name for name, _ in fields).most_common(1)
        raise WrongJson(f"the field {name[:SHOWN]!r} occurs twice in one object")
    return found


def _integer(text: str) -> int:
    if len(text) > len(str(SMALLEST_INTEGER)) or not SMALLEST_INTEGER <= int(text) <= LARGEST_INTEGER:
        raise WrongJson(f"integers must fit in 64 bits; got {text[:SHOWN]}")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise WrongJson(f"numbers must be finite; got {text[:SHOWN]}")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise WrongJson(f"numbers must be finite; got {name}")


def _check_depth(value: Any) -> None:
    layer = [value]
    for _ in range(DEEPEST + 1):
        structured = [item for item in layer if isinstance(item, dict | list)]
        layer = [child for item in structured for child in (item.values() if isinstance(item, dict) else item)]
    if structured:
        raise WrongJson(f"must have at most {DEEPEST} levels of nesting; got more")


def _check_unicode(value: Any) -> None:
    """Check for halves of surrogate pairs. JSON can contain them as escapes, but they are not valid text.

    Raises:
        WrongJson
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise WrongJson("not valid JSON: a string contains half of a surrogate pair") from None
