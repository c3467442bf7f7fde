"""Search for the files from which an ONNX file reads its weights, without the package onnx.

ONNX Runtime reads every file that an ONNX file names, so the names must be checked first. All messages that can contain
a tensor are searched; everything else is skipped. The operators, which the search meets on its way, are checked too.
The C++ runtime has the same search in `external_data.cpp`.
"""

from collections.abc import Iterator
from importlib.resources import files

from caflow_runtime.bundle.onnx_fields import WrongGraph, bytes_in, fields_of

FIELDS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {4: "operator", 5: "attribute", 7: "domain"},
    "attribute": {5: "tensor", 6: "inner", 10: "tensor", 11: "inner", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external data"},
}
"""Fields that lead to external data or are checked, by kind of message, with what each field contains."""
REFUSED = ("training", "function", "inner")
"""Fields that would contain further graphs."""
KEY, VALUE = 1, 2
"""Field numbers of an entry of external data; both fields are strings."""
LOCATION = b"location"
OWN_DOMAINS = (b"", b"ai.onnx")
"""Domains of ONNX's own operators. Operators of other domains may read files, such as EPContext of com.microsoft."""
LONGEST_NAME = 100
"""Largest number of bytes of a refused name in a message."""
OPERATORS = frozenset(files("caflow_runtime.bundle").joinpath("operators.txt").read_bytes().split())
"""Names of the operators, as bytes."""


def external_files(contents: bytes) -> Iterator[bytes]:
    """Yield the location of each piece of external data: a path relative to the ONNX file's folder, as bytes.

    The bytes may be invalid as text.

    Raises:
        WrongGraph: if this is no ONNX file, if an operator is not one of `OPERATORS`, or if there are further graphs.
    """
    waiting = [("model", memoryview(contents))]
    while waiting:
        kind, message = waiting.pop()
        if kind == "external data":
            if LOCATION in bytes_in(message, KEY):  # the key and the value may each occur more than once
                yield from map(bytes, bytes_in(message, VALUE) or [memoryview(b"")])
            continue
        known = FIELDS[kind]
        for number, value in fields_of(message):
            if number not in known or isinstance(value, int):
                continue
            found = known[number]
            if found in REFUSED:
                raise WrongGraph("must have one graph and no inner graphs, functions or training steps; got more")
            if found == "operator":
                if value not in OPERATORS:
                    raise WrongGraph(f"operators must be those that this version exports; got {_shown(value)}")
            elif found == "domain":
                if value not in OWN_DOMAINS:
                    raise WrongGraph(f"operators must be ONNX's own; got one of {_shown(value)}")
            else:
                waiting.append((found, value))


def _shown(name: memoryview) -> str:
    return repr(bytes(name[:LONGEST_NAME]).decode(errors="backslashreplace"))
