"""Check of the ONNX file of a finished engine, which an execution provider of ONNX Runtime loads.

Such a file has one node, of the operator EPContext, which contains the engine. This operator is allowed nowhere else in
a bundle, because it may also name a file. The C++ runtime has the same check in `engine_model.cpp`.
"""

from caflow_runtime.bundle.onnx_fields import WrongGraph, bytes_in, fields_of

OPERATOR, DOMAIN = "EPContext", "com.microsoft"
EMBED_MODE, CONTEXT = "embed_mode", "ep_cache_context"
"""Attributes of the node: 1 if the next one contains the engine, 0 if it names a file; and the engine."""

# Numbers of the fields of ONNX files: of a model, a graph, a node and an attribute.
GRAPH, TRAINING, FUNCTION = 7, 20, 25
NODE, INITIALIZER, SPARSE_INITIALIZER = 1, 5, 15
OP_TYPE, ATTRIBUTE, NODE_DOMAIN = 4, 5, 7
NAME, INTEGER, TEXT, DOCUMENTATION = 1, 3, 4, 13

LONGEST_NAME = 100
"""Largest number of bytes of a refused name in a message."""


def check_engine_model(contents: bytes) -> None:
    """Check that an ONNX file has one node, which contains an engine, and that it reads no other file.

    Raises:
        WrongGraph: if it is anything else.
    """
    model = memoryview(contents)
    if bytes_in(model, TRAINING, FUNCTION):
        raise WrongGraph("must have one node and nothing else; got functions or training steps")
    graph = _only(model, GRAPH, "graph")
    if bytes_in(graph, INITIALIZER, SPARSE_INITIALIZER):
        raise WrongGraph("must have one node and nothing else; got weights")
    node = _only(graph, NODE, "node")
    operator = bytes(_only(node, OP_TYPE, "operator"))
    if operator != OPERATOR.encode() or bytes_in(node, NODE_DOMAIN) != [DOMAIN.encode()]:
        raise WrongGraph(f"must have a node {OPERATOR} of {DOMAIN}; got {_shown(operator)}")
    attributes = _attributes_of(node)
    if EMBED_MODE not in attributes or CONTEXT not in attributes:
        raise WrongGraph(f"must have the attributes {EMBED_MODE} and {CONTEXT}; got others")
    engine = _only(attributes[CONTEXT], TEXT, f"text in {CONTEXT}")
    if [value for number, value in fields_of(attributes[EMBED_MODE]) if number == INTEGER] != [1]:
        raise WrongGraph(f"must contain the engine, with {EMBED_MODE} 1; got the name of a file, {_shown(engine)}")


def _attributes_of(node: memoryview) -> dict[str, memoryview]:
    """Return the attributes of a node, as messages by name. They may be numbers and texts only: others can name files.

    Raises:
        WrongGraph: if an attribute has another type, or occurs twice.
    """
    attributes: dict[str, memoryview] = {}
    for message in bytes_in(node, ATTRIBUTE):
        name = bytes(_only(message, NAME, "name in each attribute")).decode(errors="backslashreplace")
        if any(
            isinstance(value, memoryview) and number not in (NAME, TEXT, DOCUMENTATION)
            for number, value in fields_of(message)
        ):
            raise WrongGraph(f"the attribute {name[:LONGEST_NAME]!r} must be a number or a text; got another type")
        if name in attributes:
            raise WrongGraph(f"must have one attribute {name[:LONGEST_NAME]!r}; got two")
        attributes[name] = message
    return attributes


def _only(message: memoryview, number: int, what: str) -> memoryview:
    """Return the only value of a field. If there are several, readers differ in which one they use.

    Raises:
        WrongGraph: if there is another number of values.
    """
    found = bytes_in(message, number)
    if len(found) != 1:
        raise WrongGraph(f"must have one {what}; got {len(found)}")
    return found[0]


def _shown(name: bytes | memoryview) -> str:
    return repr(bytes(name[:LONGEST_NAME]))
