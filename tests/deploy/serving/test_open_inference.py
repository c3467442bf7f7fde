"""Open Inference Protocol v2: messages of an unmodified client, limits, and errors for wrong messages."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http
from front_calls import GOOD, PIXELS
from numpy.typing import NDArray
from tiny import calibrated_pipe as pipe
from tiny import photograph

from caflow_deploy.serving import failures
from caflow_deploy.serving import open_inference as protocol
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
def test_requests_and_replies_of_tritonclient_are_understood(
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


def test_tensors_in_json_may_be_nested() -> None:
    data = [[[[0, 1, 2], [3, 4, 5]]]]
    _, request = protocol.read_http(json.dumps({"inputs": [{**GOOD, "data": data}]}).encode(), None)
    assert request.tensors["image"].tobytes() == PIXELS
    assert request.tensors["image"].shape == (1, 1, 2, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": [256, *PIXELS[1:]]}, "data must be integers from 0 to 255"),
        ({"data": [[1], [2, 3]]}, "data must be integers from 0 to 255"),
        ({"data": list(PIXELS[1:])}, "image: expected 6 bytes for shape (1, 1, 2, 3); got 5"),
        ({"data": list(PIXELS), "datatype": "FP32"}, "image: expected UINT8 of shape (B, H, W, 3); got FP32"),
        ({"data": list(PIXELS), "shape": [-1, 1, -2, 3]}, "all sizes of the shape must be at least 1"),
        ({"data": [], "shape": [0, 2**62, 2**62, 3]}, "all sizes of the shape must be at least 1"),
        ({"data": list(PIXELS), "shape": [1] * 9}, "Expected `array` of length <= 8 - at `$.inputs[0].shape`"),
        ({"data": list(PIXELS), "parameters": {"deep": [[]]}}, "at `$.inputs[0].parameters[...]`"),
        ({"parameters": {"binary_data_size": True}}, "image: binary_data_size must be 0 to 0; got True"),
        ({"parameters": {"binary_data_size": 6}}, "image: binary_data_size must be 0 to 0; got 6"),
        ({"shape": "8"}, "not valid JSON of the Open Inference Protocol v2"),
        ({"data": [True] * 6}, "data must be integers from 0 to 255"),
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
        (b"\xff\xd8\xff\xe0" + b"\0" * 2**23, None, "expected pixels, not an image file"),
        (b'--4f\r\nContent-Disposition: form-data; name="image"', None, "expected pixels, not an image file"),
        (b"[" * 10**6, None, "not valid JSON of the Open Inference Protocol v2"),
        (b'{"inputs": []}abc', "14", "3 bytes follow the last input"),
        (b" " * 2**22 + b"{}", None, "JSON must have at most 4194304 bytes; got 4194306. Send tensors as binary data"),
    ],
)
def test_wrong_bodies_are_refused(body: bytes, length: str | None, message: str) -> None:
    with pytest.raises(InputError) as error:
        protocol.read_http(body, length)
    assert message in str(error.value)


def test_models_are_described() -> None:
    described = protocol.metadata(models_of("model")["model-score"])
    assert [given["name"] for given in described["inputs"]] == ["target", "condition"]
    assert described["outputs"][-1] == {"name": "accepted", "datatype": "BOOL", "shape": [-1, 1]}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (failures.UnknownModel("x"), 404),
        (failures.TooLarge("x"), 413),
        (failures.TooSlow("x"), 408),
        (failures.Busy("x"), 503),
        (InputError("x"), 400),
        (CaflowError("x"), 422),
        (TimeoutError(), 504),
        (MemoryError(), 503),
        (ZeroDivisionError(), 500),
    ],
)
def test_errors_have_a_status(error: Exception, status: int) -> None:
    assert failures.status(error) == status
    assert failures.text(error)
    failure = pickle.loads(pickle.dumps(failures.failure_of(error)))  # failures come from another process
    assert (failure.status, failure.text) == (status, failures.text(error))
    assert failures.failure_of(failure) is failure


def test_errors_do_not_reveal_files_of_the_server() -> None:
    assert failures.text(FileNotFoundError("/secret")) == "internal server error; the server's log has the reason"


def test_an_input_that_is_given_twice_is_refused() -> None:
    given = {**GOOD, "data": list(PIXELS)}
    with pytest.raises(InputError, match="input 'image' must be given only once"):
        protocol.read_http(json.dumps({"inputs": [given, given]}).encode(), None)


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
