"""Manifests, most of them damaged, on which all readers must agree. Each run uses the same ones."""

import copy
import json
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

Path = tuple[str | int, ...]
"""Position of a value in JSON: keys and list indices, from the outside in."""

VALUES: list[Any] = [
    *(None, True, False, 0, 1, 2, 3, 4, 15, 16, 30, 31, 64, 2**16, 2**16 + 1, 2**31 - 1, 2**31, 2**62, -1, -(2**63)),
    *(2**63 - 1, 1.0, 0.5, -0.0, 1e300, 5e-324, "", "x", "1", "h", "*h", "0*h", "1*h", "02*h", "99999*h", "100000*h"),
    *("2*", "2*3*h", "-2*h", "h*2", " h", "h\n", "é", "2*é", "\u0000", "\U0001f600", "items", "float32", "float64"),
    *("gray", "black", "center", "consistency", "typical"),
    *([], {}, [[]], [{}], {"": {}}, ["h"], [1, "h"]),
]
PATHS = [
    *("/", "weights.bin/", "/weights.bin", "./weights.bin", "weights.bin/.", "a//b", "a/./b", "a/../b", "..", "."),
    *("a/b/c", "...", "..a", "a..", "a\u0000", "a\n", "a\x7f", "a\\b", "a:b", " ", "é/é", "x" * 255, "x" * 256),
    *("é" * 127, "é" * 128, "/".join("ab" * 50), "~", "a b"),
]
LITERALS = [
    *("NaN", "Infinity", "-Infinity", "nan", "1e400", "-1e400", "1e-400", "-0", "-0.0", "0e999999", "1E2", "1e+2"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809"),
    *("18446744073709551615", "18446744073709551616", "1" + "0" * 400, "1" + "0" * 5000, "1" * 5000 + ".5", "01", "+1"),
    *(".5", "1.", "0x10", "1_000", "1e", "--1", "tru", "True", "None", "'x'", "undefined", "// comment", "/**/1"),
    *('"\\ud800"', '"\\udc00"', '"\\ud83d\\ude00"', '"\\ud83d\\u0041"', '"\\u00"', '"\\x41"', '"\\u0000"', '"\t"'),
    *('"\\ud83d', '"a\nb"', '"\x1f"', '"\x7f"', "[1,]", "{,}", '{"a":1,}', "[1 2]", '{"a" 1}', "{1:2}", "[,1]"),
    *('{"a":1,"a":1}', '{"a":1,"\\u0061":2}', '{"":0,"":0}', '[{"b":{"c":0,"c":0}}]'),
]
ENDS = [b"\0", b"x", b"{}", b"null", b",", b"]", b"}", b" \t\r\n", b"\x0c", b"\xa0", b"\xef\xbb\xbf", b"//", b"#"]
STARTS = [b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b" \n", b"[", b"x", b"\xef\xbb", b"\x0b"]
BYTES = b'\x00 \x1f \x7f \x80 \xc0\x80 \xed\xa0\x80 \xf4\x90\x80\x80 \xff " \\ [ }'.split(b" ")
DEPTHS = [1, 2, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 100, 499, 500, 501, 985, 986, 1000, 3000, 100_000]


def manifest_cases(manifest: dict[str, Any], count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield the manifest, then each entry of the tables above once, then `count` manifests with up to four changes.

    A field that occurs once is changed as often as a field that every port has.
    """
    source = random.Random(seed)
    good = json.dumps(manifest)
    yield good.encode()
    yield from _each_once(good.encode())
    by_name: dict[tuple[Any, ...], list[Path]] = {}
    for path in places_of(manifest):
        if path:
            by_name.setdefault(tuple("" if isinstance(key, int) else key for key in path), []).append(path)
    places = list(by_name.values())
    for _ in range(count):
        changed = json.loads(good)
        for _ in range(source.choice([0, 1, 1, 1, 1, 2, 3])):
            with suppress(AttributeError, LookupError, TypeError):  # an earlier change removed this value
                change_value(source, changed, source.choice(source.choice(places)))
        text = json.dumps(changed, ensure_ascii=source.random() < 0.5).encode()
        for _ in range(source.choice([0, 0, 1])):
            text = change_text(source, text)
        yield text


def _each_once(good: bytes) -> Iterator[bytes]:
    """Yield manifests with exactly one unusual part each."""
    yield from (good + end for end in ENDS)
    yield from (start + good for start in STARTS)
    for literal in LITERALS:
        yield _with_training(good, literal.encode())
    for depth in DEPTHS:
        yield _with_training(good, b"[" * depth + b"]" * depth)
        yield _with_training(good, b'{"a":' * depth + b"1" + b"}" * depth)
    for path in PATHS:
        yield good.replace(b'"weights.bin"', json.dumps(path).encode())


def _with_training(text: bytes, literal: bytes) -> bytes:
    """Return the manifest with one more entry in `training`, where any value is allowed."""
    before, training, after = text.partition(b'"training": {')
    comma = b"" if after.startswith(b"}") else b", "
    return before + training + b'"new": ' + literal + comma + after


def places_of(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the positions of a value and of all values inside it."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield from places_of(child, (*path, key))


def change_value(source: random.Random, manifest: dict[str, Any], path: Path) -> None:
    """Replace, remove or duplicate one value."""
    parent: Any = manifest
    for key in path[:-1]:
        parent = parent[key]
    key, kind = path[-1], source.randrange(10)
    if key == "path":
        parent[key] = source.choice(PATHS)
    elif kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[source.choice(["extra", "", "näme", str(key).upper()])] = copy.deepcopy(source.choice(VALUES))
    elif kind == 1 or (kind == 2 and isinstance(parent[key], list) and parent[key]):
        items = parent if isinstance(parent, list) else parent[key]
        items.append(copy.deepcopy(source.choice(items)))
    elif kind == 3 and isinstance(parent[key], int | float):
        parent[key] += source.choice([-1, 1, 0.5, 2**32])
    elif kind == 4:
        parent[key] = json.loads("[" * (depth := source.randrange(1, 40)) + "0" + "]" * depth)
    else:
        parent[key] = copy.deepcopy(source.choice(VALUES))


def change_text(source: random.Random, text: bytes) -> bytes:
    """Return JSON text with bytes added, removed, replaced or repeated."""
    kind = source.randrange(8)
    if kind == 0:
        return text + source.choice(ENDS)
    if kind == 1:
        return source.choice(STARTS) + text
    place = source.randrange(len(text))
    if kind == 2:
        return text[:place]
    if kind == 3:
        return text[:place] + text[place + source.randrange(1, 30) :]
    if kind == 4:
        return text[:place] + source.choice(BYTES) + text[place:]
    begins = [k + 2 for k in range(len(text) - 1) if text[k : k + 2] == b": "]
    begin = source.choice(begins or [0])
    if kind == 5:  # repeat a field
        start = text.rfind(b'"', 0, max(0, begin - 3))
        return text[:start] + text[start:begin] + b"0, " + text[start:]
    depth = source.choice(DEPTHS)
    if kind == 6:
        opened, closed = source.choice([(b"[", b"]"), (b'{"a":', b"}")])
        literal = opened * depth + b"0" + closed * depth
    else:
        literal = source.choice(LITERALS).encode()
    if source.random() < 0.5:  # where any value is allowed
        return _with_training(text, literal)
    end = min(k for k in (text.find(b",", begin), text.find(b"}", begin), len(text)) if k >= 0)
    return text[:begin] + literal + text[end:]
