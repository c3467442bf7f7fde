"""Messages of the Open Inference Protocol v2 over gRPC."""

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from caflow_deploy.serving import open_inference as protocol
from caflow_deploy.serving.request import Request, Tensors
from caflow_runtime.errors import InputError

MAX_FIELDS = 256
"""Maximum number of top-level fields of a request. It exceeds the limits on inputs, outputs and parameters together."""
MAX_PARSED_BYTES = 2**22
"""Maximum size of a request without raw contents, in bytes. Parsing small fields takes fifty times their bytes."""
RAW_CONTENTS = service_pb2.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
LENGTH_DELIMITED = 2


def parse_request(message: bytes) -> Any:
    """Parse a `ModelInferRequest`. The number and size of its fields are checked first.

    Raises:
        InputError: if there are too many fields or bytes, or the message is damaged.
    """
    place = fields = parsed = 0
    while place < len(message):
        tag, place = _varint(message, place)
        size, place = _varint(message, place)
        if tag & 7 != LENGTH_DELIMITED:  # all fields of a request have this type
            raise InputError("not a valid ModelInferRequest: a field has the wrong type")
        place += size
        fields += 1
        parsed += size if tag >> 3 != RAW_CONTENTS else 0
        if fields > MAX_FIELDS or parsed > MAX_PARSED_BYTES:
            raise InputError(
                f"the request must have at most {MAX_FIELDS} inputs, outputs and parameters, with at most "
                f"{MAX_PARSED_BYTES} bytes beside raw contents; send tensors as raw contents"
            )
    return parse(service_pb2.ModelInferRequest, message)


def parse(kind: Any, message: bytes) -> Any:
    """Parse a message.

    Arguments:
        kind: class of the message.

    Raises:
        InputError: if the message is damaged.
    """
    try:
        return kind.FromString(message)
    except DecodeError as error:
        raise InputError(f"not a valid {kind.DESCRIPTOR.name}: {error}") from None


def read_request(message: Any) -> Request:
    """Return the tensors and parameters of a `ModelInferRequest`.

    Raises:
        InputError: if the request is malformed.
    """
    _check_counts(message)
    protocol.check_names(message.inputs)
    for given in message.inputs:
        protocol.check_shape(given)
    raws: Sequence[Any] = message.raw_input_contents
    if not raws:
        raws = [_contents(given) for given in message.inputs]
    if len(raws) != len(message.inputs):
        raise InputError(
            f"raw_input_contents: expected {len(message.inputs)} entries, one for each input; got {len(raws)}"
        )
    tensors = {given.name: protocol.tensor_of(given, raw) for given, raw in zip(message.inputs, raws, strict=True)}
    return Request(tensors, protocol.for_the_model(parameters_of(message)))


def parameters_of(message: Any) -> dict[str, Any]:
    """Return the parameters of a `ModelInferRequest`."""
    return {
        name: getattr(value, value.WhichOneof("parameter_choice") or "int64_param")
        for name, value in message.parameters.items()
    }


def write_reply(model: protocol.Model, request: Any, tensors: Tensors, reply: Any) -> None:
    """Fill in a `ModelInferResponse`."""
    reply.model_name, reply.model_version, reply.id = model.name, protocol.VERSION, request.id
    wanted: dict[str, dict[str, Any]] = {output.name: {} for output in request.outputs}
    for name, datatype, tensor in protocol.outputs_of(model, tensors, wanted):
        reply.outputs.add(name=name, datatype=datatype, shape=tensor.shape)
        reply.raw_output_contents.append(protocol.as_bytes(tensor))


def _check_counts(message: Any) -> None:
    """Check the limits of a `ModelInferRequest`. For JSON, the same limits are part of the types."""
    for what, items, most in (
        ("inputs", message.inputs, protocol.MAX_TENSORS),
        ("outputs", message.outputs, protocol.MAX_TENSORS),
        ("raw_input_contents", message.raw_input_contents, protocol.MAX_TENSORS),
        ("parameters", message.parameters, protocol.MAX_PARAMETERS),
        ("id", message.id, protocol.MAX_NAME),
    ):
        if len(items) > most:
            raise InputError(f"{what}: the length must be at most {most}; got {len(items)}")
    for given in message.inputs:
        if max(len(given.name), len(given.datatype)) > protocol.MAX_NAME or len(given.shape) > protocol.MAX_AXES:
            raise InputError(
                f"inputs: names must have at most {protocol.MAX_NAME} characters, and shapes at most "
                f"{protocol.MAX_AXES} sizes"
            )


def _contents(given: Any) -> bytes:
    numbers = given.contents.uint_contents
    if len(numbers) > protocol.MAX_NUMBERS:
        raise InputError(
            f"{given.name}: must have at most {protocol.MAX_NUMBERS} numbers; got {len(numbers)}. Send raw contents"
        )
    return protocol.uint8_of(given.name, list(numbers))


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """Return the variable-length integer of protobuf at a position, and the position after it."""
    value = 0
    for k, byte in enumerate(message[place : place + 10]):
        value |= (byte & 127) << (7 * k)
        if byte < 128:
            return value, place + k + 1
    raise InputError("not a valid ModelInferRequest: it ends within a field")
