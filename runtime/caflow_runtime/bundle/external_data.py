"""Which files an ONNX file reads its weights from, found without the package onnx.

ONNX Runtime reads whatever an ONNX file names. An ONNX file is a protocol buffer: fields of a number, a wire type and a
value, of which some are messages, which hold fields again (https://protobuf.dev/programming-guides/encoding,
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). All messages that can hold a tensor are looked into, wherever
they are; everything else is skipped. The C++ runtime has the same in `external_data.cpp`.
"""

from collections.abc import Iterator

DEEPEST = 100
"""Messages inside each other; ONNX Runtime takes no more either."""
VARINT, EIGHT_BYTES, MESSAGE, FOUR_BYTES = 0, 1, 2, 5
"""Wire types. Groups are obsolete, and refused."""
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
"""Of each kind of message, the fields that lead to external data, and the kind of message that they hold."""
KEY, VALUE = 1, 2
"""Fields of an entry of external data, both texts."""
LOCATION = b"location"
OWN_DOMAINS = (b"", b"ai.onnx")
"""Of ONNX's own operators. Others may read files, as EPContext of com.microsoft does."""


class WrongGraph(ValueError):
    """Bytes are not an ONNX file, or one that a bundle must not hold."""


def external_files(contents: bytes) -> Iterator[bytes]:
    """Yield the location of each piece of external data: a path relative to the ONNX file's folder. It may be no text.

    Raises:
        WrongGraph
    """
    waiting = [("model", 0, len(contents), 1)]
    while waiting:
        kind, start, end, depth = waiting.pop()
        if depth > DEEPEST:
            raise WrongGraph(f"wanted at most {DEEPEST} messages inside each other, got more")
        fields = _messages(contents, start, end)
        if kind == "external data":
            yield from _locations(contents, list(fields))
            continue
        known = MESSAGES[kind]
        for number, first, last in fields:
            if known.get(number) == "domain":
                if contents[first:last] not in OWN_DOMAINS:
                    raise WrongGraph(f"wanted ONNX's own operators, got one of {contents[first:last][:100]!r}")
            elif number in known:
                waiting.append((known[number], first, last, depth + 1))


def _locations(contents: bytes, fields: list[tuple[int, int, int]]) -> Iterator[bytes]:
    """Of one entry, whose key and value may each be there more than once."""
    if LOCATION in [contents[first:last] for number, first, last in fields if number == KEY]:
        values = [contents[first:last] for number, first, last in fields if number == VALUE]
        yield from values or [b""]


def _messages(contents: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field of a message that holds bytes: a message, a text, or packed numbers."""
    while position < end:
        tag, position = _varint(contents, position, end)
        number, wire_type = tag >> 3, tag & 7
        if not number or tag >= LARGEST_TAG:
            raise WrongGraph("not an ONNX file: a field's number is not one")
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
            raise WrongGraph("not an ONNX file: a field is of a wire type that ONNX does not use")
    if position > end:
        raise WrongGraph("not an ONNX file: it ends inside a field")


def _varint(contents: bytes, position: int, end: int) -> tuple[int, int]:
    """A number of up to ten bytes of seven bits each, the lowest first, and the position after it."""
    if position < end and contents[position] < 128:  # most are that small
        return contents[position], position + 1
    value = 0
    for place in range(10):
        if position + place >= end:
            raise WrongGraph("not an ONNX file: it ends inside a number")
        byte = contents[position + place]
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, position + place + 1
    raise WrongGraph("not an ONNX file: a number is too long")
