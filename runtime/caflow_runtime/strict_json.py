"""JSON from files that anybody may have written: bounded, and without what two readers may take differently.

`docs/reference/bundle.md` lists the rules. The C++ runtime has the same ones, in `strict_json.cpp`.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

MOST_BYTES = 16 * 2**20
"""Of a file that is read as a whole."""
MOST_BYTES_OF_A_LINE = 2**20
DEEPEST = 32
"""Objects and arrays inside each other."""
SMALLEST_INTEGER, LARGEST_INTEGER = -(2**63), 2**63 - 1
SHOWN = 24
"""Characters of a number or a name that is refused."""

Kind = TypeVar("Kind")


class WrongJson(ValueError):
    """A text is not JSON as it is read here, or its contents are of another kind. The message names no file."""


def read_json(path: Path, kind: type[Kind], most_bytes: int = MOST_BYTES) -> Kind:
    """Return the contents of a JSON file as `kind`, a struct or any other type that msgspec knows.

    Raises:
        WrongJson
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        text = file.read(most_bytes + 1)
    if len(text) > most_bytes:
        raise WrongJson(f"wanted at most {most_bytes} bytes, got more")
    return parse_json(text, kind)


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, with their ends.

    Raises:
        WrongJson: if a line is longer than any that is written.
        OSError
    """
    with path.open("rb") as file:
        while line := file.readline(MOST_BYTES_OF_A_LINE + 1):
            if len(line) > MOST_BYTES_OF_A_LINE:
                raise WrongJson(f"wanted lines of at most {MOST_BYTES_OF_A_LINE} bytes, got a longer one")
            yield line


def parse_json(text: bytes, kind: type[Kind]) -> Kind:
    """Return what a text holds as `kind`.

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
        raise WrongJson(f"not JSON: {error.reason} at byte {error.start}, wanted UTF-8") from None
    except json.JSONDecodeError as error:
        raise WrongJson(f"not JSON: {error}") from None
    except RecursionError:
        raise WrongJson(f"wanted at most {DEEPEST} levels of nesting, got more") from None
    _check_depth(value)
    if b"\\u" in text:
        _check_unicode(value)
    return convert(value, kind)


def convert(value: Any, kind: type[Kind]) -> Kind:
    """Return objects, arrays and the like as `kind`.

    Raises:
        WrongJson: naming the place.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise WrongJson(str(error)) from None


def _object(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(fields)
    if len(found) < len(fields):
        [(name, _)] = Counter(name for name, _ in fields).most_common(1)
        raise WrongJson(f"got the field {name[:SHOWN]!r} twice in one object")
    return found


def _integer(text: str) -> int:
    if len(text) > len(str(SMALLEST_INTEGER)) or not SMALLEST_INTEGER <= int(text) <= LARGEST_INTEGER:
        raise WrongJson(f"wanted integers of 64 bits, got {text[:SHOWN]}")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise WrongJson(f"wanted finite numbers, got {text[:SHOWN]}")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise WrongJson(f"wanted finite numbers, got {name}")


def _check_depth(value: Any) -> None:
    layer = [value]
    for _ in range(DEEPEST + 1):
        structured = [item for item in layer if isinstance(item, dict | list)]
        layer = [child for item in structured for child in (item.values() if isinstance(item, dict) else item)]
    if structured:
        raise WrongJson(f"wanted at most {DEEPEST} levels of nesting, got more")


def _check_unicode(value: Any) -> None:
    """Halves of surrogate pairs can be escaped in JSON, but are no text."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise WrongJson("not JSON: half of a surrogate pair in a text") from None
