"""Requests to a server, and answers, alike in every engine. The words are those of the Open Inference Protocol v2."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from numpy.typing import NDArray

from caflow_runtime.checks import LARGEST_WORD
from caflow_runtime.errors import CaflowError
from caflow_runtime.image import Image
from caflow_runtime.rows.draw import Judge, Rank

TEMPERATURE = 0.8

Tensors = dict[str, NDArray[Any]]
Answer = Tensors | CaflowError | MemoryError | TimeoutError
"""Tensors, or why there are none."""


@dataclass(frozen=True)
class TensorSpec:
    """What a tensor of a model is; −1 is any size."""

    name: str
    datatype: Literal["BOOL", "BYTES", "FP64", "INT64", "UINT8"]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Request:
    """What someone asks for."""

    tensors: Mapping[str, NDArray[Any]]
    """By the names of a model's inputs, (B, H, W, 3) uint8 RGB each; whoever answers checks that."""
    parameters: Mapping[str, Any]
    """Fields of `SampleParameters` or `ScoreParameters`; numbers may be given as words."""
    until: float = math.inf
    """Nobody waits for the answer any longer when `time.monotonic` says more."""


@dataclass(frozen=True, eq=False)
class Checked:
    """A request that can be computed."""

    number: int
    """Of those that were asked together."""
    until: float
    """As of the request."""
    images: list[list[Image]]
    """Of each input."""
    pixels: int
    """Of its results, all samples counted."""


class SampleParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a request to draw: arguments of `Pipeline.best_of`."""

    n: Annotated[int, Meta(ge=1, le=LARGEST_WORD)] = 10
    temperature: Annotated[float, Meta(ge=0)] = TEMPERATURE
    seed: Annotated[int, Meta(ge=0, le=LARGEST_WORD)] = 0
    rank: Rank = "likelihood"
    consistent: bool = False
    min_typicality: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """What has less is untypical, and other samples are drawn in its place; 0 takes any."""
    judge: Judge = "sample"
    """What that is asked of, as in `Reject`."""
    untypical: Literal["mark", "drop", "bicubic"] = "mark"
    """Where all are: the best of them, an error, or the input, enlarged."""


class ScoreParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a request to judge."""

    min_typicality: Annotated[float, Meta(ge=0, lt=1)] | None = None
    """Targets of less are not accepted. None is 0.01; or 0, which accepts all, where the bundle is not calibrated."""
