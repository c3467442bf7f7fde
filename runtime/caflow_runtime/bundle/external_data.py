"""Search for the files from which an ONNX file reads its weights, without the package onnx.

ONNX Runtime reads every file that an ONNX file names, so the names must be checked first. An ONNX file is a protocol
buffer: a sequence of fields, each with a number, a wire type and a value. Values can be messages, which consist of
fields again (https://protobuf.dev/programming-guides/encoding, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
All messages that can contain a tensor are searched; everything else is skipped. The C++ runtime has the same search in
`external_data.cpp`.
"""

from collections.abc import Iterator

DEEPEST = 100
"""Maximum nesting depth of messages. ONNX Runtime has the same limit."""
VARINT, EIGHT_BYTES, MESSAGE, FOUR_BYTES = 0, 1, 2, 5
"""Wire types. Groups are obsolete and rejected."""
LARGEST_TAG = 2**32

MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute", 7: "domain"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external data"},
}
"""Fields that lead to external data, by kind of message, with the kind of message that each field contains."""
KEY, VALUE = 1, 2
"""Field numbers of an entry of external data; both fields are strings."""
LOCATION = b"location"
OWN_DOMAINS = (b"", b"ai.onnx")
"""Domains of ONNX's own operators. Operators of other domains may read files, such as EPContext of com.microsoft."""


class WrongGraph(ValueError):
    """The bytes are not an ONNX file, or the ONNX file contains something that is not allowed in a bundle."""


def external_files(contents: bytes) -> Iterator[bytes]:
    """Yield the location of each piece of external data: a path relative to the ONNX file's folder, as bytes.

    The bytes may be invalid as text.
    """
    waiting = [("model", 0, len(contents), 1)]
    while waiting:
        kind, start, end, depth = waiting.pop()
        if depth > DEEPEST:
            raise WrongGraph(f"must have at most {DEEPEST} levels of nested messages; got more")
        fields = _messages(contents, start, end)
        if kind == "external data":
            yield from _locations(contents, list(fields))
            continue
        known = MESSAGES[kind]
        for number, first, last in fields:
            if known.get(number) == "domain":
                if contents[first:last] not in OWN_DOMAINS:
                    raise WrongGraph(f"operators must be ONNX's own; got one of {contents[first:last][:100]!r}")
            elif number in known:
                waiting.append((known[number], first, last, depth + 1))


def _locations(contents: bytes, fields: list[tuple[int, int, int]]) -> Iterator[bytes]:
    """Yield the location in one entry, whose key and value may each occur more than once."""
    if LOCATION in [contents[first:last] for number, first, last in fields if number == KEY]:
        values = [contents[first:last] for number, first, last in fields if number == VALUE]
        yield from values or [b""]


def _messages(contents: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number, start and end of each field of a message whose value is bytes.

    Such a value is a message, a string or packed numbers.
    """
    while position < end:
        tag, position = _varint(contents, position, end)
        number, wire_type = tag >> 3, tag & 7
        if not number or tag >= LARGEST_TAG:
            raise WrongGraph("not an ONNX file: a field has an invalid number")
        if wire_type == VARINT:
            _, position = _varint(contents, position, end)
        elif wire_type == EIGHT_BYTES:
            position += 8
        elif wire_type == FOUR_BYTES:
            position += 4
        elif wire_type == MESSAGE:
            size, first = _varint(contents, position, end)
            position = first + size
            if position <= end:
                yield number, first, position
        else:
            raise WrongGraph("not an ONNX file: a field has a wire type that ONNX does not use")
    if position > end:
        raise WrongGraph("not an ONNX file: it ends inside a field")


def _varint(contents: bytes, position: int, end: int) -> tuple[int, int]:
    """Return a variable-length integer and the position after it: up to ten bytes of seven bits, lowest bits first."""
    if position < end and contents[position] < 128:  # fast path: most integers have one byte
        return contents[position], position + 1
    value = 0
    for place in range(10):
        if position + place >= end:
            raise WrongGraph("not an ONNX file: it ends inside an integer")
        byte = contents[position + place]
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, position + place + 1
    raise WrongGraph("not an ONNX file: an integer has more than ten bytes")
