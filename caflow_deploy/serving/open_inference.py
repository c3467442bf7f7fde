"""Messages of the Open Inference Protocol v2 over HTTP.

The protocol is described at https://github.com/kserve/open-inference-protocol. Tensors may be JSON, or binary data as
in Triton's extension of the protocol.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from caflow_deploy import __version__
from caflow_deploy.serving.failures import UnknownModel
from caflow_deploy.serving.request import Request, Tensors, TensorSpec
from caflow_runtime.errors import InputError

VERSION = "1"
"""Version of every model. Bundles are identified by hashes, so versions have no meaning."""
PLATFORM = "caflow"
HEADER_LENGTH = "Inference-Header-Content-Length"
"""HTTP header with the number of JSON bytes in a body; binary tensors follow them."""
AXES = 4
"""Number of axes of all input tensors: (B, H, W, 3)."""
ENGINE_PARAMETERS = {"binary_data_output", "priority", "sequence_end", "sequence_id", "sequence_start", "timeout"}
"""Parameters that are meant for the server, not for the model."""
FILE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM", b"--")
"""First bytes of image files, and of the forms in which browsers and `curl -F` send files. JSON begins with none."""
MAX_JSON_BYTES = 2**22
"""Maximum number of JSON bytes of a request. JSON is for small images: a parsed number takes many times its bytes."""
MAX_NUMBERS = 2**20
"""Maximum number of values of an output as JSON."""
MAX_INT64 = 2**63 - 1
MAX_TENSORS = 16
"""Maximum number of inputs, and of outputs, in a request. Models have at most two inputs and six outputs."""
MAX_PARAMETERS = 64
"""Maximum number of parameters of a request, and of each of its tensors."""
MAX_AXES = 8
"""Maximum number of entries of a shape."""
MAX_NAME = 256
"""Maximum length of a name, a data type or an identifier, in characters."""

Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
Parameters = Annotated[dict[Name, bool | int | float | str | None], msgspec.Meta(max_length=MAX_PARAMETERS)]
Size = Annotated[int, msgspec.Meta(ge=-MAX_INT64, le=MAX_INT64)]

Decoded = TypeVar("Decoded")


@dataclass(frozen=True)
class Model:
    """Name, inputs and outputs of a model."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class TensorHeader(msgspec.Struct):
    """Input tensor in the JSON of a request."""

    name: Name
    shape: Annotated[list[Size], msgspec.Meta(max_length=MAX_AXES)]
    datatype: Name
    parameters: Parameters = {}
    data: msgspec.Raw = msgspec.Raw(b"null")
    """Numbers, flat or in nested lists, if the tensor is not binary. They are decoded last, after all other checks."""


class WantedOutput(msgspec.Struct):
    """Output that a request asks for."""

    name: Name
    parameters: Parameters = {}


class RequestHeader(msgspec.Struct):
    """JSON of a request."""

    inputs: Annotated[list[TensorHeader], msgspec.Meta(max_length=MAX_TENSORS)]
    outputs: Annotated[list[WantedOutput], msgspec.Meta(max_length=MAX_TENSORS)] = []
    id: Name = ""
    parameters: Parameters = {}


def check_outputs(model: Model, wanted: Iterable[WantedOutput]) -> None:
    """Check the outputs that a request asks for.

    Raises:
        InputError: if the model does not have one of them.
    """
    names = [spec.name for spec in model.outputs]
    if unknown := [output.name for output in wanted if output.name not in names]:
        raise InputError(f"outputs of {model.name} must be among {', '.join(names)}; got {unknown[0]!r}")


def find(models: Mapping[str, Model], name: str, version: str = "") -> Model:
    """Return the model with this name and version. An empty version is any.

    Raises:
        UnknownModel: if there is no such model.
    """
    if name in models and version in ("", VERSION):
        return models[name]
    raise UnknownModel(
        f"model must be one of {', '.join(models)}, with version {VERSION} or none; got {name!r}, version {version!r}"
    )


def metadata(model: Model) -> dict[str, Any]:
    """Return the metadata of a model, as JSON values."""

    def described(specs: Sequence[Any]) -> list[dict[str, Any]]:
        return [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]

    names = {"name": model.name, "versions": [VERSION], "platform": PLATFORM}
    return {**names, "inputs": described(model.inputs), "outputs": described(model.outputs)}


def server_metadata() -> dict[str, Any]:
    """Return the metadata of the server, as JSON values."""
    return {"name": PLATFORM, "version": __version__, "extensions": ["binary_tensor_data"]}


def read_http(body: bytes | bytearray, header_length: str | None) -> tuple[RequestHeader, Request]:
    """Parse the body of an HTTP request.

    Arguments:
        header_length: value of the HTTP header `HEADER_LENGTH`; None if it is missing.

    Raises:
        InputError: if the request is malformed.
    """
    if body.startswith(FILE_STARTS):
        raise InputError(
            "expected pixels, not an image file: POST the file to /enlarge, /inpaint or /colorize; or decode it, and "
            "send a UINT8 tensor of shape (B, H, W, 3) in the form of the Open Inference Protocol v2"
        )
    try:
        length = len(body) if header_length is None else int(header_length)
        if not 0 <= length <= len(body):
            raise ValueError
    except ValueError:
        raise InputError(f"{HEADER_LENGTH} must be 0 to {len(body)}; got {header_length!r}") from None
    if length > MAX_JSON_BYTES:
        raise InputError(f"JSON must have at most {MAX_JSON_BYTES} bytes; got {length}. Send tensors as binary data")
    rest = memoryview(body)[length:]
    header = _json(memoryview(body)[:length], RequestHeader)
    names = Counter(given.name for given in header.inputs)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InputError(f"input {twice[0]!r} must be given only once")
    tensors = {}
    for given in header.inputs:
        _check_shape(given)
        size = given.parameters.get("binary_data_size")
        if size is None:
            raw: Any = _numbers(given)
        elif type(size) is int and 0 <= size <= len(rest):  # isinstance would accept a boolean
            raw, rest = rest[:size], rest[size:]
        else:
            raise InputError(f"{given.name}: binary_data_size must be 0 to {len(rest)}; got {size!r}")
        tensors[given.name] = _tensor(given, raw)
    if len(rest):
        raise InputError(f"{len(rest)} bytes follow the last input: binary_data_size must count all bytes of the body")
    parameters = {name: value for name, value in header.parameters.items() if name not in ENGINE_PARAMETERS}
    return header, Request(tensors, parameters)


def write_http(model: Model, header: RequestHeader, tensors: Tensors) -> tuple[bytes, dict[str, str]]:
    """Return the body and the HTTP headers of a reply.

    Raises:
        InputError: if an output has too many values for JSON.
    """
    wanted = {output.name: output.parameters for output in header.outputs}
    is_binary = header.parameters.get("binary_data_output", False)
    outputs, blobs = [], []
    for spec in model.outputs:
        if wanted and spec.name not in wanted:
            continue
        tensor = tensors[spec.name]
        output: dict[str, Any] = {"name": spec.name, "datatype": spec.datatype, "shape": list(tensor.shape)}
        if wanted.get(spec.name, {}).get("binary_data", is_binary):
            blobs.append(_as_bytes(tensor))
            output["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            if tensor.size > MAX_NUMBERS:
                raise InputError(
                    f"{spec.name} has {tensor.size} values, but JSON outputs may have at most {MAX_NUMBERS}; request "
                    "binary data with the parameter binary_data or binary_data_output"
                )
            values = tensor.ravel().tolist()
            output["data"] = [value.decode() for value in values] if spec.datatype == "BYTES" else values
        outputs.append(output)
    names = {"model_name": model.name, "model_version": VERSION, "id": header.id}
    reply = msgspec.json.encode({**names, "outputs": outputs})
    if not blobs:
        return reply, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(reply))}
    return b"".join([reply, *blobs]), headers


def _check_shape(given: TensorHeader) -> None:
    """Check the type and shape of an input before its numbers are read."""
    shape = tuple(given.shape)
    if given.datatype != "UINT8" or len(shape) != AXES:
        raise InputError(f"{given.name}: expected UINT8 of shape (B, H, W, 3); got {given.datatype} of shape {shape}")
    if min(shape) < 1:
        raise InputError(f"{given.name}: all sizes of the shape must be at least 1; got {shape}")


def _tensor(given: TensorHeader, raw: Any) -> NDArray[np.uint8]:
    """Return an input from its bytes. `_check_shape` must have been called before."""
    shape = tuple(given.shape)
    if len(raw) != math.prod(shape):
        raise InputError(f"{given.name}: expected {math.prod(shape)} bytes for shape {shape}; got {len(raw)}")
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _json(text: Any, kind: type[Decoded]) -> Decoded:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"the request is not valid JSON of the Open Inference Protocol v2: {error}") from None


def _numbers(given: TensorHeader) -> bytes:
    """Return the bytes of an input whose numbers are JSON, flat or nested. Ragged lists are refused."""
    numbers = np.asarray(_json(given.data, object), object).ravel().tolist()
    try:
        if set(map(type, numbers)) <= {int}:  # bytes() would accept booleans as 0 and 1
            return bytes(numbers)
    except ValueError:  # out of range
        pass
    raise InputError(f"{given.name}: data must be integers from 0 to 255")


def _as_bytes(tensor: NDArray[Any]) -> bytes:
    """Return a tensor as little-endian bytes in row-major order. Each string follows its length in four bytes."""
    if tensor.dtype == object:
        return b"".join(len(word).to_bytes(4, "little") + word for word in tensor.ravel())
    return np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<")).tobytes()
