"""Messages of the Open Inference Protocol v2: over HTTP with its binary tensors, and over gRPC.

https://github.com/kserve/open-inference-protocol, and Triton's extension for binary tensors.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from caflow_deploy import __version__
from caflow_runtime.errors import CaflowError, InputError
from caflow_runtime.service.request import Request, Tensors, TensorSpec

VERSION = "1"
"""Of every model: bundles have hashes."""
PLATFORM = "caflow"
HEADER_LENGTH = "Inference-Header-Content-Length"
AXES = 4
"""Of all tensors that come in: (B, H, W, 3)."""
ENGINE_PARAMETERS = {"binary_data_output", "priority", "sequence_end", "sequence_id", "sequence_start", "timeout"}
"""What clients say to the server, not to the model."""
MICROSECONDS = 1e6
MAX_JSON_BYTES = 2**22
"""Of a request. Pixels as JSON are for a look at small images: in memory, each takes many times the bytes of one."""
MAX_NUMBERS = 2**20
"""Of an output as JSON, or of an input of gRPC that is not raw."""
MAX_INT64 = 2**63 - 1
MAX_TENSORS = 16
"""Inputs or outputs of one request. Models have two inputs and six outputs at most."""
MAX_PARAMETERS = 64
"""Parameters of one request, or of one of its tensors."""
MAX_AXES = 8
"""Entries of a shape."""
MAX_NAME = 256
"""Characters of a name, a data type or an identifier."""
MAX_TEXT = 1000
"""Characters of an error: longer ones do not fit into the header that gRPC sends them in."""

Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
Parameters = Annotated[dict[Name, bool | int | float | str | None], msgspec.Meta(max_length=MAX_PARAMETERS)]
Size = Annotated[int, msgspec.Meta(ge=-MAX_INT64, le=MAX_INT64)]

Decoded = TypeVar("Decoded")


class UnknownModel(InputError):
    """None of that name is served."""


class TooLarge(InputError):
    """A request has more bytes than any that could be answered."""


class TooSlow(InputError):
    """A request did not arrive in time."""


class Busy(CaflowError):
    """There are too many requests already."""


class Failure(CaflowError):
    """Why there is no answer, as it is sent to a client, or from one process to another."""

    def __init__(self, http: int, grpc: str, text: str) -> None:
        super().__init__(text)
        self.args = (http, grpc, text)  # from which pickle makes it again
        self.http, self.grpc, self.text = http, grpc, text


@dataclass(frozen=True)
class Model:
    """A model as clients see it."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class TensorHeader(msgspec.Struct):
    """An input of a request."""

    name: Name
    shape: Annotated[list[Size], msgspec.Meta(max_length=MAX_AXES)]
    datatype: Name
    parameters: Parameters = {}
    data: msgspec.Raw = msgspec.Raw(b"null")
    """Where the tensor is not binary: numbers, in nested lists or not. Decoded once everything else is right."""


class WantedOutput(msgspec.Struct):
    """An output of a request."""

    name: Name
    parameters: Parameters = {}


class RequestHeader(msgspec.Struct):
    """The JSON of a request."""

    inputs: Annotated[list[TensorHeader], msgspec.Meta(max_length=MAX_TENSORS)]
    outputs: Annotated[list[WantedOutput], msgspec.Meta(max_length=MAX_TENSORS)] = []
    id: Name = ""
    parameters: Parameters = {}


def check_outputs(model: Model, wanted: Iterable[Any]) -> None:
    """Of a `RequestHeader`, or of a `ModelInferRequest`.

    Raises:
        InputError: if one is wanted that the model has not.
    """
    names = [spec.name for spec in model.outputs]
    if unknown := [output.name for output in wanted if output.name not in names]:
        raise InputError(f"outputs of {model.name}: wanted some of {', '.join(names)}, got {unknown[0]!r}")


def find(models: Mapping[str, Model], name: str, version: str = "") -> Model:
    """The model that is meant.

    Raises:
        UnknownModel
    """
    if name in models and version in ("", VERSION):
        return models[name]
    raise UnknownModel(f"model {name!r} {version}: wanted one of {', '.join(models)}, version {VERSION}")


def metadata(model: Model) -> dict[str, Any]:
    """Of a model, as JSON has it."""

    def described(specs: Sequence[Any]) -> list[dict[str, Any]]:
        return [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]

    names = {"name": model.name, "versions": [VERSION], "platform": PLATFORM}
    return {**names, "inputs": described(model.inputs), "outputs": described(model.outputs)}


def server_metadata() -> dict[str, Any]:
    """As JSON has it."""
    return {"name": PLATFORM, "version": __version__, "extensions": ["binary_tensor_data"]}


def deadline(parameters: Mapping[str, Any]) -> float | None:
    """Seconds that a client waits; None where it does not say.

    Raises:
        InputError
    """
    timeout = parameters.get("timeout", 0)
    if type(timeout) is not int or not 0 <= timeout <= MAX_INT64:  # a truth value is an int
        raise InputError(f"timeout: wanted microseconds, 0 to {MAX_INT64}")
    return timeout / MICROSECONDS or None


def read_http(body: bytes | bytearray, header_length: str | None) -> tuple[RequestHeader, Request]:
    """A request's body; `header_length` is what the HTTP header `HEADER_LENGTH` says, if it is there.

    Raises:
        InputError
    """
    try:
        length = len(body) if header_length is None else int(header_length)
        if not 0 <= length <= len(body):
            raise ValueError
    except ValueError:
        raise InputError(f"{HEADER_LENGTH}: wanted 0 to {len(body)}, got {header_length!r}") from None
    if length > MAX_JSON_BYTES:
        raise InputError(f"wanted at most {MAX_JSON_BYTES} bytes of JSON, got {length}: send tensors as binary data")
    rest = memoryview(body)[length:]
    header = _json(memoryview(body)[:length], RequestHeader)
    check_names(header.inputs)
    tensors = {}
    for given in header.inputs:
        check_shape(given)
        size = given.parameters.get("binary_data_size")
        if size is None:
            raw: Any = _numbers(given)
        elif type(size) is int and 0 <= size <= len(rest):  # a truth value is an int
            raw, rest = rest[:size], rest[size:]
        else:
            raise InputError(f"{given.name}: binary_data_size: wanted 0 to {len(rest)}, got {size!r}")
        tensors[given.name] = tensor_of(given, raw)
    if len(rest):
        raise InputError(f"{len(rest)} bytes follow the last input: binary_data_size should count all of them")
    return header, Request(tensors, for_the_model(header.parameters))


def write_http(model: Model, header: RequestHeader, tensors: Tensors) -> tuple[bytes, dict[str, str]]:
    """A reply's body, and its HTTP headers.

    Raises:
        InputError: if there are too many numbers for JSON.
    """
    wanted = {output.name: output.parameters for output in header.outputs}
    is_binary = header.parameters.get("binary_data_output", False)
    outputs, blobs = [], []
    for name, datatype, tensor in outputs_of(model, tensors, wanted):
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(tensor.shape)}
        if wanted.get(name, {}).get("binary_data", is_binary):
            blobs.append(as_bytes(tensor))
            output["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            if tensor.size > MAX_NUMBERS:
                raise InputError(
                    f"{name}: wanted at most {MAX_NUMBERS} numbers as JSON, there are {tensor.size}: ask for "
                    "binary data, by the parameter binary_data or binary_data_output"
                )
            values = tensor.ravel().tolist()
            output["data"] = [value.decode() for value in values] if datatype == "BYTES" else values
        outputs.append(output)
    names = {"model_name": model.name, "model_version": VERSION, "id": header.id}
    reply = msgspec.json.encode({**names, "outputs": outputs})
    if not blobs:
        return reply, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(reply))}
    return b"".join([reply, *blobs]), headers


def outputs_of(model: Model, tensors: Tensors, wanted: Mapping[str, Any]) -> Iterator[tuple[str, str, NDArray[Any]]]:
    """Name, data type and tensor of each output that is wanted; of all, if none is named."""
    for spec in model.outputs:
        if not wanted or spec.name in wanted:
            yield spec.name, spec.datatype, tensors[spec.name]


def for_the_model(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Without those that are the server's."""
    return {name: value for name, value in parameters.items() if name not in ENGINE_PARAMETERS}


def check_shape(given: Any) -> None:
    """Refuse what no model takes, before a single number is read.

    Raises:
        InputError
    """
    shape = tuple(given.shape)
    if given.datatype != "UINT8" or len(shape) != AXES:
        raise InputError(f"{given.name}: wanted UINT8 of shape (B, H, W, 3), got {given.datatype} of {shape}")
    if min(shape) < 1:
        raise InputError(f"{given.name}: shape: wanted sizes of at least 1, got {shape}")


def tensor_of(given: Any, raw: Any) -> NDArray[np.uint8]:
    """An input whose shape was checked, from its bytes.

    Raises:
        InputError
    """
    shape = tuple(given.shape)
    if len(raw) != math.prod(shape):
        raise InputError(f"{given.name}: wanted {math.prod(shape)} bytes for shape {shape}, got {len(raw)}")
    return np.frombuffer(raw, np.uint8).reshape(shape)


def check_names(inputs: Sequence[Any]) -> None:
    """Refuse a name that comes twice.

    Raises:
        InputError
    """
    names = Counter(given.name for given in inputs)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InputError(f"input {twice[0]!r}: wanted it once")


def _json(text: Any, kind: type[Decoded]) -> Decoded:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"the request is no JSON of the Open Inference Protocol v2: {error}") from None


def _numbers(given: TensorHeader) -> bytes:
    """Flat or nested; of what is neither, the words and lists that are left in it are no numbers."""
    return uint8_of(given.name, np.asarray(_json(given.data, object), object).ravel().tolist())


def uint8_of(name: str, numbers: Sequence[Any]) -> bytes:
    """An input's bytes, from numbers.

    Raises:
        InputError
    """
    try:
        if set(map(type, numbers)) <= {int}:  # truth values would be 0 and 1
            return bytes(numbers)
    except ValueError:  # out of range
        pass
    raise InputError(f"{name}: data: wanted integers from 0 to 255")


def as_bytes(tensor: NDArray[Any]) -> bytes:
    """Little-endian, row by row; words with their length in four bytes before each."""
    if tensor.dtype == object:
        return b"".join(len(word).to_bytes(4, "little") + word for word in tensor.ravel())
    return np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<")).tobytes()


STATUS: tuple[tuple[type[BaseException], int, str], ...] = (
    (UnknownModel, 404, "NOT_FOUND"),
    (TooLarge, 413, "INVALID_ARGUMENT"),
    (TooSlow, 408, "DEADLINE_EXCEEDED"),
    (Busy, 503, "RESOURCE_EXHAUSTED"),
    (InputError, 400, "INVALID_ARGUMENT"),
    (CaflowError, 422, "FAILED_PRECONDITION"),
    (TimeoutError, 504, "DEADLINE_EXCEEDED"),
    (MemoryError, 503, "RESOURCE_EXHAUSTED"),
)
"""What becomes of an error: the status of HTTP, and of gRPC."""


def status(error: BaseException) -> tuple[int, str]:
    """Of HTTP, and of gRPC."""
    return next(((http, grpc) for kind, http, grpc in STATUS if isinstance(error, kind)), (500, "INTERNAL"))


def text(error: BaseException) -> str:
    """What a client is told: `MAX_TEXT` characters at most, as names of the request may be in it."""
    if isinstance(error, TimeoutError):
        return "the deadline passed before there was an answer"
    if not isinstance(error, CaflowError | MemoryError):
        return "the server failed; its log says why"  # what it was may tell of files and processes
    whole = str(error) or type(error).__name__
    return whole if len(whole) <= MAX_TEXT else f"{whole[: MAX_TEXT - 1]}…"


def failure_of(error: BaseException) -> Failure:
    """What becomes of an error."""
    return error if isinstance(error, Failure) else Failure(*status(error), text(error))
