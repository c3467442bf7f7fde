"""Open Inference Protocol v2: messages of an unmodified client, limits, and errors for wrong messages."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from front_calls import GOOD, PIXELS
from numpy.typing import NDArray
from tiny import calibrated_pipe as pipe
from tiny import photograph
from tritonclient.grpc import service_pb2

from caflow_deploy.serving import failures
from caflow_deploy.serving import open_inference as protocol
from caflow_deploy.serving import open_inference_grpc as messages
from caflow_deploy.serving.body_limiter import client_timeout
from caflow_deploy.serving.inference_app import models_of
from caflow_deploy.serving.request import Request, Tensors
from caflow_deploy.serving.served_models import Sampler
from caflow_runtime.errors import CaflowError, InputError
from caflow_runtime.pipeline.pipeline import Pipeline

__all__ = ["pipe"]  # a fixture

MODEL = models_of("model")["model"]


@pytest.fixture
def image(photographs: Path) -> NDArray[np.uint8]:
    return photograph(photographs, 0, 8, 12)[None]


@pytest.fixture
def tensors(pipe: Pipeline, image: NDArray[np.uint8]) -> Tensors:
    (answer,) = Sampler(pipe).answer([Request({"image": image}, {"n": 2})])
    assert isinstance(answer, dict)
    return answer


def as_input(package: Any, image: NDArray[np.uint8], **how: bool) -> Any:
    given = package.InferInput("image", list(image.shape), "UINT8")
    given.set_data_from_numpy(image, **how)
    return given


@pytest.mark.parametrize("binary", [True, False])
def test_requests_and_replies_of_tritonclient_over_http_are_understood(
    image: NDArray[np.uint8], tensors: Tensors, binary: bool
) -> None:
    """The client's own code writes the request and reads the reply, with binary tensors and with JSON."""
    http = tritonclient.http
    parameters = {"n": 2, "temperature": 0.5}
    body, length = http.InferenceServerClient.generate_request_body(
        [as_input(http, image, binary_data=binary)],
        outputs=[http.InferRequestedOutput(spec.name, binary_data=binary) for spec in Sampler.outputs],
        request_id="7",
        parameters=parameters,
        timeout=2_000_000,
    )
    header, request = protocol.read_http(body, None if length is None else str(length))
    np.testing.assert_array_equal(request.tensors["image"], image)
    assert request.parameters == parameters  # the timeout is used by the server alone
    assert client_timeout(header.parameters) == 2
    reply, headers = protocol.write_http(MODEL, header, tensors)
    own = headers.get(protocol.HEADER_LENGTH)
    found = http.InferenceServerClient.parse_response_body(reply, header_length=own and int(own))
    assert (found.get_response()["id"], found.get_response()["model_name"]) == ("7", "model")
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found.as_numpy(name).astype(tensor.dtype).astype(str), as_words(tensor))


def as_words(tensor: NDArray[Any]) -> NDArray[Any]:
    return np.vectorize(bytes.decode)(tensor) if tensor.dtype == object else tensor.astype(str)


@pytest.mark.parametrize("raw", [True, False])
def test_tritonclient_is_understood_over_grpc(image: NDArray[np.uint8], tensors: Tensors, raw: bool) -> None:
    """Tensors may be sent as raw contents, as tritonclient does, or as contents of the input."""
    message = service_pb2.ModelInferRequest(model_name="model", id="7")
    given = message.inputs.add(name="image", datatype="UINT8", shape=image.shape)
    if raw:
        message.raw_input_contents.append(image.tobytes())
    else:
        given.contents.uint_contents.extend(image.ravel().tolist())
    message.parameters["temperature"].string_param = "0.5"
    message.parameters["timeout"].int64_param = 3_000_000
    message.outputs.add(name="image")
    message.outputs.add(name="outcome")
    request = messages.read_request(message)
    np.testing.assert_array_equal(request.tensors["image"], image)
    assert request.parameters == {"temperature": "0.5"}
    assert client_timeout(messages.parameters_of(message)) == 3
    reply = service_pb2.ModelInferResponse()
    messages.write_reply(MODEL, message, tensors, reply)
    found = tritonclient.grpc.InferResult(reply)
    np.testing.assert_array_equal(found.as_numpy("image"), tensors["image"])
    assert found.as_numpy("outcome").tolist() == tensors["outcome"].tolist()
    assert found.as_numpy("sample_typicality") is None  # it was not requested
    assert found.get_response().id == "7"


def test_tensors_in_json_may_be_nested() -> None:
    data = [[[[0, 1, 2], [3, 4, 5]]]]
    _, request = protocol.read_http(json.dumps({"inputs": [{**GOOD, "data": data}]}).encode(), None)
    assert request.tensors["image"].tobytes() == PIXELS
    assert request.tensors["image"].shape == (1, 1, 2, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": [256, *PIXELS[1:]]}, "data must be integers from 0 to 255"),
        ({"data": [0.5, *PIXELS[1:]]}, "data must be integers from 0 to 255"),
        ({"data": [[1], [2, 3]]}, "data must be integers from 0 to 255"),
        ({"data": "abcdef"}, "data must be integers from 0 to 255"),
        ({"data": list(PIXELS[1:])}, "image: expected 6 bytes for shape (1, 1, 2, 3); got 5"),
        ({"data": list(PIXELS), "datatype": "FP32"}, "image: expected UINT8 of shape (B, H, W, 3); got FP32"),
        ({"data": list(PIXELS), "shape": [1, 2, 3]}, "expected UINT8 of shape (B, H, W, 3)"),
        ({"data": list(PIXELS), "shape": [-1, 1, -2, 3]}, "all sizes of the shape must be at least 1"),
        ({"data": [], "shape": [0, 2**62, 2**62, 3]}, "all sizes of the shape must be at least 1"),
        ({"data": list(PIXELS), "shape": [1, 1, 2.5, 3]}, "Expected `int`, got `float` - at `$.inputs[0].shape[2]`"),
        ({"data": list(PIXELS), "shape": [1] * 9}, "Expected `array` of length <= 8 - at `$.inputs[0].shape`"),
        ({"data": list(PIXELS), "datatype": "U" * 257}, "Expected `str` of length <= 256"),
        ({"data": list(PIXELS), "parameters": {"deep": [[]]}}, "at `$.inputs[0].parameters[...]`"),
        ({"parameters": {"binary_data_size": True}}, "image: binary_data_size must be 0 to 0; got True"),
        ({"parameters": {"binary_data_size": -1}}, "image: binary_data_size must be 0 to 0; got -1"),
        ({"parameters": {"binary_data_size": 6}}, "image: binary_data_size must be 0 to 0; got 6"),
        ({"shape": "8"}, "not valid JSON of the Open Inference Protocol v2"),
        ({"data": [True] * 6}, "data must be integers from 0 to 255"),
        ({"data": list(PIXELS), "shape": [10**4000, 1, 1, 3]}, "Expected `int` <= 9223372036854775807"),
        ({"data": list(PIXELS), "shape": [2**62, 1, 1, 3]}, f"expected {3 * 2**62} bytes for shape"),
    ],
)
def test_wrong_inputs_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        protocol.read_http(json.dumps({"inputs": [{**GOOD, **given}]}).encode(), None)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("body", "length", "message"),
    [
        (b"{}", "3", f"{protocol.HEADER_LENGTH} must be 0 to 2; got '3'"),
        (b"{}", "x", f"{protocol.HEADER_LENGTH} must be 0 to 2; got 'x'"),
        (b"{}", None, "missing required field `inputs`"),
        (b"[" * 10**6, None, "not valid JSON of the Open Inference Protocol v2"),
        (b'{"inputs": []}abc', "14", "3 bytes follow the last input"),
        (b" " * 2**22 + b"{}", None, "JSON must have at most 4194304 bytes; got 4194306. Send tensors as binary data"),
    ],
)
def test_wrong_bodies_are_refused(body: bytes, length: str | None, message: str) -> None:
    with pytest.raises(InputError) as error:
        protocol.read_http(body, length)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("given", "contents", "message"),
    [
        ({"shape": [0, 2**62, 2**62, 3]}, b"", "image: all sizes of the shape must be at least 1; got (0, 46116"),
        ({"shape": [2**62, 2**62, 2, 3]}, PIXELS, f"image: expected {6 * 2**124} bytes for shape"),
        ({}, PIXELS[1:], "image: expected 6 bytes for shape (1, 1, 2, 3); got 5"),
        ({"name": "x" * 257}, PIXELS, "inputs: names must have at most 256 characters, and shapes at most 8"),
        ({"shape": [1] * 9}, PIXELS, "inputs: names must have at most 256 characters, and shapes at most 8"),
    ],
)
def test_wrong_inputs_are_refused_over_grpc(given: dict[str, Any], contents: bytes, message: str) -> None:
    request = service_pb2.ModelInferRequest(raw_input_contents=[contents])
    request.inputs.add(**{**GOOD, **given})
    with pytest.raises(InputError) as error:
        messages.read_request(request)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b"\x2a\x00" * 1000, "must have at most 256 inputs, outputs and parameters"),  # empty inputs
        (b"\x22\x00" * 1000, "must have at most 256 inputs, outputs and parameters"),
        (b"\x2a\x81\x80\x80\x02" + b"\x2a\x00" * 2**21, "at most 4194304 bytes beside raw contents"),
        (b"\x2a", "it ends within a field"),
        (b"\xff" * 100, "it ends within a field"),
        (b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "must have at most 256"),
        (b"\x2a\x05", "not a valid ModelInferRequest: "),
        (b"\x08\x01", "a field has the wrong type"),
    ],
)
def test_messages_are_measured_before_they_are_parsed(message: bytes, said: str) -> None:
    with pytest.raises(InputError) as error:
        messages.parse_request(message)
    assert said in str(error.value)


def test_models_are_described() -> None:
    described = protocol.metadata(models_of("model")["model-score"])
    assert [given["name"] for given in described["inputs"]] == ["target", "condition"]
    assert described["outputs"][-1] == {"name": "accepted", "datatype": "BOOL", "shape": [-1, 1]}


@pytest.mark.parametrize(
    ("error", "http", "grpc"),
    [
        (failures.UnknownModel("x"), 404, "NOT_FOUND"),
        (failures.TooLarge("x"), 413, "INVALID_ARGUMENT"),
        (failures.TooSlow("x"), 408, "DEADLINE_EXCEEDED"),
        (failures.Busy("x"), 503, "RESOURCE_EXHAUSTED"),
        (InputError("x"), 400, "INVALID_ARGUMENT"),
        (CaflowError("x"), 422, "FAILED_PRECONDITION"),
        (TimeoutError(), 504, "DEADLINE_EXCEEDED"),
        (MemoryError(), 503, "RESOURCE_EXHAUSTED"),
        (ZeroDivisionError(), 500, "INTERNAL"),
    ],
)
def test_errors_have_a_status(error: Exception, http: int, grpc: str) -> None:
    assert failures.status(error) == (http, grpc)
    assert failures.text(error)
    failure = pickle.loads(pickle.dumps(failures.failure_of(error)))  # failures come from another process
    assert (failure.http, failure.grpc, failure.text) == (http, grpc, failures.text(error))
    assert failures.failure_of(failure) is failure


def test_errors_do_not_reveal_files_of_the_server() -> None:
    assert failures.text(FileNotFoundError("/secret")) == "internal server error; the server's log has the reason"


def test_an_input_that_is_given_twice_is_refused() -> None:
    given = {**GOOD, "data": list(PIXELS)}
    with pytest.raises(InputError, match="input 'image' must be given only once"):
        protocol.read_http(json.dumps({"inputs": [given, given]}).encode(), None)
    message = service_pb2.ModelInferRequest(raw_input_contents=[PIXELS, PIXELS])
    for _ in range(2):
        message.inputs.add(**GOOD)
    with pytest.raises(InputError, match="input 'image' must be given only once"):
        messages.read_request(message)


def test_numbers_of_grpc_are_bounded() -> None:
    message = service_pb2.ModelInferRequest()
    given = message.inputs.add(**GOOD)
    given.contents.uint_contents.extend([0] * (2**20 + 1))
    with pytest.raises(InputError, match="image: must have at most 1048576 numbers; got 1048577"):
        messages.read_request(message)


def test_wrong_outputs_are_refused(tensors: Tensors) -> None:
    with pytest.raises(InputError, match=r"outputs of model must be among image, .*; got 'picture'"):
        protocol.check_outputs(MODEL, [protocol.WantedOutput("image"), protocol.WantedOutput("picture")])
    large = {**tensors, "image": np.zeros((1, 1024, 1024, 3), np.uint8)}
    with pytest.raises(InputError, match="image has 3145728 values, but JSON outputs may have at most 1048576"):
        protocol.write_http(MODEL, protocol.RequestHeader([]), large)


@pytest.mark.parametrize("timeout", ["1", -1, 0.5, None, True, 10**400])
def test_timeouts_are_microseconds(timeout: Any) -> None:
    with pytest.raises(InputError, match="timeout must be 0 to"):
        client_timeout({"timeout": timeout})


@pytest.mark.parametrize("what", ["inputs", "outputs", "parameters", "raw_input_contents"])
def test_numbers_of_names_are_bounded_over_grpc(what: str) -> None:
    message = service_pb2.ModelInferRequest()
    message.inputs.add(**GOOD)
    for name in map(str, range(40_000)):
        if what == "parameters":
            message.parameters[name].int64_param = 1
        elif what == "raw_input_contents":
            message.raw_input_contents.append(b"")
        else:
            getattr(message, what).add(name=name)
    with pytest.raises(InputError, match=rf"{what}: the length must be at most \d+; got 4000\d"):
        messages.read_request(message)
