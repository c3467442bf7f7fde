"""Search for the files from which an ONNX file reads its weights, without the package onnx.

ONNX Runtime reads every file that an ONNX file names, so the names must be checked first. All messages that can contain
a tensor are searched; everything else is skipped. The C++ runtime has the same search in `external_data.cpp`.
"""

from collections.abc import Iterator

from caflow_runtime.bundle.onnx_fields import WrongGraph, bytes_in, fields_of

DEEPEST = 100
"""Maximum nesting depth of messages. ONNX Runtime has the same limit."""
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


def external_files(contents: bytes) -> Iterator[bytes]:
    """Yield the location of each piece of external data: a path relative to the ONNX file's folder, as bytes.

    The bytes may be invalid as text.

    Raises:
        WrongGraph: if this is no ONNX file, or an operator is not ONNX's own.
    """
    waiting = [("model", memoryview(contents), 1)]
    while waiting:
        kind, message, depth = waiting.pop()
        if depth > DEEPEST:
            raise WrongGraph(f"must have at most {DEEPEST} levels of nested messages; got more")
        if kind == "external data":
            if LOCATION in bytes_in(message, KEY):  # the key and the value may each occur more than once
                yield from map(bytes, bytes_in(message, VALUE) or [memoryview(b"")])
            continue
        known = MESSAGES[kind]
        for number, value in fields_of(message):
            if number not in known or isinstance(value, int):
                continue
            if known[number] != "domain":
                waiting.append((known[number], value, depth + 1))
            elif value not in OWN_DOMAINS:
                raise WrongGraph(f"operators must be ONNX's own; got one of {bytes(value[:100])!r}")
