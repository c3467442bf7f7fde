"""Fuzzing of Open Inference Protocol requests: refused with a documented error, or answered."""

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fuzzing import REFUSED, Attempt
from google.protobuf.message import Message
from mutations import changed_bytes, changed_json
from tiny import TINY
from tritonclient.grpc import service_pb2

from caflow_deploy.serving import failures
from caflow_deploy.serving import open_inference as protocol
from caflow_deploy.serving.body_limiter import client_timeout
from caflow_deploy.serving.open_inference_grpc import parameters_of, parse_request, read_request
from caflow_deploy.serving.request import Request
from caflow_deploy.serving.served_models import SERVICES
from caflow_runtime.errors import CaflowError
from caflow_runtime.pipeline.pipeline import load

MAX_PIXELS = 2**13
"""Limit of a request's result pixels: a few small samples."""
LENGTHS = ["0", "1", "-1", "x", "", " 7", "1e3", "1_0", "٣", "9" * 30, "9" * 5000, "4294967296"]
"""Values of the HTTP header that states the length of the JSON."""
SHAPES = [
    *([1, 8, 8, 4], [8, 8, 3], [], [0, 8, 8, 3], [1, 2**40, 2**40, 3], [-1, 8, 8, 3], [1, 4, 16, 3], [2**62, 4, 1, 1])
]
PARAMETERS: list[Any] = [
    *(0, 1, 2, -1, 2**31, 2**63, 0.5, 1e300, True, "", "2", "x", "likelihood", "typical", "1e999", "nan", "∞")
]
NAMES = [
    *("n", "seed", "rank", "temperature", "consistent", "min_typicality", "otherwise", "timeout"),
    *("binary_data_output", "x"),
]
TYPED = [
    *(("string_param", "x"), ("string_param", "9" * 400), ("int64_param", -1), ("int64_param", 2**62)),
    *(("bool_param", True), ("double_param", float("nan")), ("double_param", 1e300)),
]
"""Field and value of a gRPC parameter."""

Answer = Callable[[int, Request, protocol.RequestHeader | None], None]


def http_requests(_: Path) -> Attempt:
    """Change an HTTP body: JSON, and binary tensors after it."""
    answer = _services()

    def attempt(source: random.Random) -> str:
        k = source.randrange(len(SERVICES))
        body, length = http_body(source, k)
        try:
            header, request = protocol.read_http(body, length)
            client_timeout(header.parameters)
            answer(k, request, header)
        except CaflowError as error:
            return _refused(error)
        return "answered"

    return attempt


def grpc_requests(_: Path) -> Attempt:
    """Change a gRPC message `ModelInferRequest`."""
    answer = _services()

    def attempt(source: random.Random) -> str:
        k = source.randrange(len(SERVICES))
        try:
            message = parse_request(grpc_message(source, k))
            client_timeout(parameters_of(message))
            answer(k, read_request(message), None)
        except CaflowError as error:
            return _refused(error)
        return "answered"

    return attempt


def _services() -> Answer:
    """Return a function that answers a request to service number `k`, or raises the error of a refusal."""
    pipe = load(TINY, backend="cpu", threads=1)
    services = [kind(pipe, MAX_PIXELS) for kind in SERVICES]
    models = [protocol.Model(service.name, service.inputs, service.outputs) for service in services]

    def answer(k: int, request: Request, header: protocol.RequestHeader | None) -> None:
        if header is not None:
            protocol.check_outputs(models[k], header.outputs)
        [tensors] = services[k].answer([request])
        if isinstance(tensors, Exception):
            raise tensors
        protocol.write_http(models[k], header or protocol.RequestHeader([]), tensors)

    return answer


def _refused(error: CaflowError) -> str:
    http, grpc = failures.status(error)
    assert 400 <= http < 500, error
    assert grpc not in ("INTERNAL", "UNKNOWN")
    assert len(failures.text(error)) <= failures.MAX_TEXT
    return REFUSED


def _inputs(k: int) -> Iterable[tuple[str, list[int]]]:
    """Return name and shape of each input of a good request to service number `k`."""
    return [("image", [1, 2, 2, 3])] if k == 0 else [("target", [1, 8, 8, 3]), ("condition", [1, 2, 2, 3])]


def http_body(source: random.Random, k: int) -> tuple[bytes, str | None]:
    """Return the body of a request to service number `k`, and the length of its JSON if tensors follow it."""
    is_binary = source.random() < 0.6
    inputs, blobs = [], []
    for name, shape in _inputs(k):
        pixels = source.randbytes(shape[1] * shape[2] * 3)
        given: dict[str, Any] = {"name": name, "shape": shape, "datatype": "UINT8"}
        if is_binary:
            given["parameters"] = {"binary_data_size": len(pixels)}
            blobs.append(pixels)
        else:
            given["data"] = list(pixels) if source.random() < 0.5 else [list(pixels)]
        inputs.append(given)
    if source.random() < 0.2:
        inputs[0]["shape"] = source.choice(SHAPES)
    parameters = {source.choice(NAMES): source.choice(PARAMETERS) for _ in range(source.choice([0, 0, 1, 2]))}
    header = {"inputs": inputs, "parameters": {"n": 1, **parameters}, "outputs": [{"name": "log_likelihood"}]}
    text = changed_json(source, header) if source.random() < 0.7 else json.dumps(header).encode()
    if source.random() < 0.1:
        text = changed_bytes(source, text)
    length = source.choice([*LENGTHS, None]) if source.random() < 0.1 else str(len(text)) if is_binary else None
    return text + b"".join(blobs), length


def grpc_message(source: random.Random, k: int) -> bytes:
    """Return a message `ModelInferRequest` to service number `k`."""
    message: Any = service_pb2.ModelInferRequest(model_name="model")
    is_raw = source.random() < 0.7
    for name, shape in _inputs(k):
        pixels = source.randbytes(shape[1] * shape[2] * 3)
        given = message.inputs.add(name=name, datatype="UINT8", shape=shape)
        if is_raw:
            message.raw_input_contents.append(pixels)
        else:
            given.contents.uint_contents.extend(pixels)
    for _ in range(source.choice([0, 1, 1, 2])):
        _change_message(source, message)
    whole = message.SerializeToString()
    return changed_bytes(source, whole) if source.random() < 0.5 else whole


def _change_message(source: random.Random, message: Message | Any) -> None:
    given, kind = source.choice(message.inputs), source.randrange(7)
    if kind == 0:
        del given.shape[:]
        given.shape.extend(source.choice(SHAPES))
    elif kind == 1:
        given.datatype = source.choice(["FP32", "", "BYTES", "é", "UINT8"])
    elif kind == 2 and message.raw_input_contents:
        message.raw_input_contents[0] = source.randbytes(source.choice([0, 1, 11, 13, 5000]))
    elif kind == 3:
        parameter = message.parameters[source.choice(NAMES)]
        field, value = source.choice(TYPED)
        setattr(parameter, field, value)
    elif kind == 4:
        message.inputs.add(name=source.choice(["image", "mask", "", "x" * 300]), datatype="UINT8", shape=[1])
    elif kind == 5:
        given.contents.uint_contents.extend([source.choice([0, 255, 256, 2**32 - 1])] * source.choice([1, 12, 3000]))
    else:
        message.parameters[source.choice(NAMES)].SetInParent()
