"""Servers of a real model that answers when it is told to, and requests to them."""

import asyncio
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

from caflow_deploy.serving import open_inference as protocol
from caflow_deploy.serving.body_limiter import BodyLimiter
from caflow_deploy.serving.image_app import ImageApp, image_bodies
from caflow_deploy.serving.image_requests import ImageAnswer, ImageModels, ImageRequest
from caflow_deploy.serving.inference_app import InferenceApp, models_of
from caflow_deploy.serving.loop_thread import loop_thread
from caflow_deploy.serving.request import Request, Tensors
from caflow_deploy.serving.served_models import Sampler
from caflow_deploy.serving.server_runner import ServerRunner
from caflow_runtime.bundle.builtin import find_bundle
from caflow_runtime.pipeline.pipeline import load

PIXELS = bytes(range(6))
GOOD = {"name": "image", "shape": [1, 1, 2, 3], "datatype": "UINT8"}
PATIENCE_S = 120
"""Timeout in seconds, so that an answer that never comes fails the test instead of blocking it."""


@dataclass
class HeldBackend:
    """Sampler that answers only while `may_answer` is set."""

    sampler: Sampler
    may_answer: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    images: list[ImageRequest] = field(default_factory=list)
    """Requests with image files that were answered."""

    async def answer(self, model: str, request: Request) -> Tensors:
        self.asked.set()
        try:
            while not self.may_answer.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.left.set()
            raise
        (answer,) = await asyncio.to_thread(self.sampler.answer, [request])
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def answer_image(self, request: ImageRequest) -> ImageAnswer:
        """Return the image itself."""
        self.images.append(request)
        return ImageAnswer(request.files["image"], {})

    async def check(self) -> None:
        await asyncio.to_thread(self.sampler.check)


@pytest.fixture(scope="module")
def sampler() -> Iterator[Sampler]:
    with load(find_bundle(Path("x4-photo")), threads=1) as pipe:
        yield Sampler(pipe)


@pytest.fixture
def backend(sampler: Sampler) -> HeldBackend:
    made = HeldBackend(sampler)
    made.may_answer.set()
    return made


def front_of(backend: HeldBackend, bodies: BodyLimiter, deadline: float = PATIENCE_S) -> InferenceApp:
    models = ImageModels.of(find_bundle("x4-photo"), False, 2**16)
    images = ImageApp(models, backend, image_bodies(models), deadline, 2**16)
    return InferenceApp(models_of("model"), backend, bodies, deadline, images)


@contextmanager
def answering(backend: HeldBackend, deadline: float = PATIENCE_S, **limits: Any) -> Iterator[ServerRunner]:
    """Serve until the block ends."""
    front = front_of(backend, BodyLimiter(**{"largest": 2**20, **limits}), deadline)
    opened = ServerRunner(front, "127.0.0.1", free_port())
    with loop_thread() as run, opened.open(run):
        yield opened


def http(server: ServerRunner, header: dict[str, Any], blob: bytes = b"", model: str = "model") -> tuple[int, Any]:
    """Send a request of JSON, or of JSON and a binary tensor; return the status and the JSON or error text."""
    text = json.dumps(header).encode()
    headers = {protocol.HEADER_LENGTH: str(len(text))} if blob else {}
    url = f"http://127.0.0.1:{server.port}/v2/models/{model}/infer"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, text + blob, headers), timeout=PATIENCE_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["error"]


def http_good(server: ServerRunner) -> bool:
    status, answer = http(server, {"inputs": [{**GOOD, "data": list(PIXELS)}], "parameters": {"n": 1}})
    return status == 200 and answer["outputs"][0]["shape"] == [1, 4, 8, 3]


def half_sent(server: ServerRunner) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), PATIENCE_S)
    connection.sendall(b"POST /v2/models/model/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    return connection


def wait_for(find: Any, is_found: Any) -> Any:
    """Return the result of `find` once `is_found` accepts it. The server needs time to notice other connections."""
    end = time.monotonic() + PATIENCE_S
    while not is_found(found := find()):
        assert time.monotonic() < end, found
        time.sleep(0.01)
    return found
