"""Fuzzing of Open Inference Protocol requests: refused with a documented error, or answered."""

import json
import random
from pathlib import Path
from typing import Any

from fuzzing import REFUSED, Attempt
from mutations import changed_bytes, changed_json
from tiny import TINY

from caflow_deploy.serving import failures
from caflow_deploy.serving import open_inference as protocol
from caflow_deploy.serving.body_limiter import client_timeout
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


def http_requests(_: Path) -> Attempt:
    """Change an HTTP body: JSON, and binary tensors after it."""
    pipe = load(TINY, backend="cpu", threads=1)
    services = [kind(pipe, MAX_PIXELS) for kind in SERVICES]
    models = [protocol.Model(service.name, service.inputs, service.outputs) for service in services]

    def attempt(source: random.Random) -> str:
        k = source.randrange(len(SERVICES))
        body, length = http_body(source, k)
        try:
            header, request = protocol.read_http(body, length)
            client_timeout(header.parameters)
            protocol.check_outputs(models[k], header.outputs)
            [tensors] = services[k].answer([request])
            if isinstance(tensors, Exception):
                raise tensors
            protocol.write_http(models[k], header, tensors)
        except CaflowError as error:
            return _refused(error)
        return "answered"

    return attempt


def _refused(error: CaflowError) -> str:
    assert 400 <= failures.status(error) < 500, error
    assert len(failures.text(error)) <= failures.MAX_TEXT
    return REFUSED


def http_body(source: random.Random, k: int) -> tuple[bytes, str | None]:
    """Return the body of a request to service number `k`, and the length of its JSON if tensors follow it."""
    is_binary = source.random() < 0.6
    good = [("image", [1, 2, 2, 3])] if k == 0 else [("target", [1, 8, 8, 3]), ("condition", [1, 2, 2, 3])]
    inputs, blobs = [], []
    for name, shape in good:
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
