"""Requests to a server and their answers, for any serving engine. Terms are those of the Open Inference Protocol v2."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta
from numpy.typing import NDArray

from caflow_runtime.errors import CaflowError, InputError
from caflow_runtime.image_arrays import Image

Tensors = dict[str, NDArray[Any]]
Answer = Tensors | CaflowError | MemoryError | TimeoutError
"""Tensors, or the error that explains why there are none."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, datatype and shape of a model's input or output. A size of −1 in the shape is any size."""

    name: str
    datatype: Literal["BOOL", "BYTES", "FP64", "INT64", "UINT8"]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Request:
    """Request of a client, as it arrived."""

    tensors: Mapping[str, NDArray[Any]]
    """Inputs by name. Each must be (B, H, W, 3) uint8 RGB, which `Service.answer` checks."""
    parameters: Mapping[str, Any]
    """Fields of `DrawOptions` or `ScoreParameters`. Numbers may also be strings."""
    until: float = math.inf
    """Deadline by `time.monotonic`, in seconds. After it, the client no longer waits for the answer."""


@dataclass(frozen=True, eq=False)
class Checked:
    """Request that was checked and can be computed."""

    number: int
    """Position of the request in the call of `Service.answer`, from 0."""
    until: float
    """Deadline of the request."""
    images: list[list[Image]]
    """Images of each input."""
    pixels: int
    """Number of pixels of the results, over all samples."""


Parameters = TypeVar("Parameters", bound=msgspec.Struct)


def checked_parameters(request: Request, kind: type[Parameters], model: str) -> Parameters:
    """Return the parameters of a request as options.

    Arguments:
        model: name of the model, for the message.

    Raises:
        InputError: if there is no such parameter, or a value is not valid.
    """
    try:
        # Not strict, because some clients can only send strings.
        return msgspec.convert(dict(request.parameters), kind, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(f"parameters of {model}: {error}") from None


class ScoreParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a request for a score."""

    min_typicality: Annotated[float, Meta(ge=0, lt=1)] | None = None
    """Targets with a lower typicality are not accepted; 0 accepts every target.

    None is 0.01, or 0 if the bundle is not calibrated.
    """
