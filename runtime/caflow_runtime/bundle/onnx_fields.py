"""Fields of an ONNX file, read without the package onnx.

An ONNX file is a protocol buffer: a sequence of fields, each with a number, a wire type and a value. Values can be
messages, which consist of fields again (https://protobuf.dev/programming-guides/encoding,
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). The C++ runtime does the same in `onnx_fields.cpp`.
"""

from collections.abc import Iterator

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5
"""Wire types. Groups are obsolete and rejected."""
LARGEST_TAG = 2**32


class WrongGraph(ValueError):
    """The bytes are not an ONNX file, or the ONNX file contains something that is not allowed in a bundle."""


def fields_of(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield the number and the value of each field of a message. Values of a fixed size are skipped.

    A value is an integer, or a view of bytes: a message, a string or packed numbers.

    Raises:
        WrongGraph: if the bytes are not a message.
    """
    position, end = 0, len(message)
    while position < end:
        tag, position = _varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        if not number or tag >= LARGEST_TAG:
            raise WrongGraph("not an ONNX file: a field has an invalid number")
        if wire_type == VARINT:
            value, position = _varint(message, position)
            yield number, value
        elif wire_type == EIGHT_BYTES:
            position += 8
        elif wire_type == FOUR_BYTES:
            position += 4
        elif wire_type == BYTES:
            size, first = _varint(message, position)
            position = first + size
            if position <= end:
                yield number, message[first:position]
        else:
            raise WrongGraph("not an ONNX file: a field has a wire type that ONNX does not use")
    if position > end:
        raise WrongGraph("not an ONNX file: it ends inside a field")


def bytes_in(message: memoryview, *numbers: int) -> list[memoryview]:
    """Return the values of the fields with these numbers that are bytes, in the order of the message.

    Raises:
        WrongGraph: if the bytes are not a message.
    """
    return [value for number, value in fields_of(message) if number in numbers and isinstance(value, memoryview)]


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return a variable-length integer and the position after it: up to ten bytes of seven bits, lowest bits first."""
    if position < len(message) and message[position] < 128:  # fast path: most integers have one byte
        return message[position], position + 1
    value = 0
    for place in range(10):
        if position + place >= len(message):
            raise WrongGraph("not an ONNX file: it ends inside an integer")
        byte = message[position + place]
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, position + place + 1
    raise WrongGraph("not an ONNX file: an integer has more than ten bytes")
