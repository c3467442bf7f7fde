"""Random changes of good inputs. Equal random sources give equal changes."""

import copy
import json
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from reader_cases import change_text, change_value, places_of

NUMBERS = [0, 1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
HEADER_BYTES = 64
"""Number of bytes at the start of a file that are changed more often than the rest, because they matter most."""


def changed_bytes(source: random.Random, contents: bytes) -> bytes:
    """Return a copy with up to five changes: bytes replaced, removed, repeated or inserted, or the end cut off."""
    changed = bytearray(contents)
    for _ in range(source.choice([1, 1, 2, 5])):
        if not changed:
            break
        _change_bytes(source, changed)
    return bytes(changed)


def _change_bytes(source: random.Random, changed: bytearray) -> None:
    place = source.randrange(min(len(changed), source.choice([HEADER_BYTES, len(changed)])))
    kind = source.randrange(8)
    if kind < 2:
        changed[place] = source.choice([0, 1, 127, 128, 255, changed[place] ^ 1 << source.randrange(8)])
    elif kind == 2:
        del changed[place : place + source.choice([1, 2, 8, 100])]
    elif kind == 3:
        changed[place:place] = source.randbytes(source.choice([1, 2, 10]))
    elif kind == 4:
        changed[place:place] = changed[place : place + source.choice([2, 20, 200])]
    elif kind == 5:
        size = source.choice([2, 4, 8])
        number = source.choice(NUMBERS) % 2 ** (8 * size)
        changed[place : place + size] = number.to_bytes(size, source.choice(["little", "big"]))
    elif kind == 6:
        other = source.randrange(len(changed))
        size = source.choice([4, 32, 512])
        changed[place : place + size] = changed[other : other + size]
    else:
        del changed[place:]


def changed_json(source: random.Random, value: Any) -> bytes:
    """Return a value as JSON text, with values replaced, removed or repeated, invalid syntax, or both."""
    changed = copy.deepcopy(value)
    places = [place for place in places_of(value) if place]
    for _ in range(source.choice([0, 1, 1, 1, 2, 3])):
        with suppress(AttributeError, LookupError, TypeError):  # an earlier change removed the place
            change_value(source, changed, source.choice(places))
    text = json.dumps(changed, ensure_ascii=source.random() < 0.5).encode("utf-8", "surrogatepass")
    return change_text(source, text) if source.random() < 0.4 else text


def changed_file(source: random.Random, contents: bytes) -> bytes:
    """Return the contents of a JSON file with the changes of `changed_json`, or of `changed_bytes`."""
    in_json = source.random() < 0.7
    return changed_json(source, json.loads(contents)) if in_json else changed_bytes(source, contents)


def changed_lines(source: random.Random, text: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Return a text with one line changed, removed or repeated, with shuffled lines, or with changed bytes."""
    lines = text.splitlines(keepends=True)
    place, kind = source.randrange(len(lines)), source.randrange(8)
    if kind == 0:
        del lines[place]
    elif kind == 1:
        lines.insert(source.randrange(len(lines)), lines[place])
    elif kind == 2:
        source.shuffle(lines)
    elif kind == 3:
        return changed_bytes(source, text)
    else:
        lines[place] = change(lines[place].rstrip(b"\n")) + source.choice([b"\n", b"\n", b"\n", b"\r\n", b"", b"\r"])
    return b"".join(lines)


def changed_json_line(source: random.Random, line: bytes) -> bytes:
    """Return one line of JSON with the changes of `changed_json`."""
    return changed_json(source, json.loads(line))
