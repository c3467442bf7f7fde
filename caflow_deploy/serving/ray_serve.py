"""A server of the Open Inference Protocol v2 in Ray Serve: replicas that hold a pipeline each, behind one address."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import grpc
import msgspec
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError
from ray import serve
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from tritonclient.grpc import service_pb2

from caflow_deploy.serving import open_inference as protocol
from caflow_deploy.serving.ray_instruments import RayInstruments
from caflow_runtime.backends.select import BackendName
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline import load
from caflow_runtime.request import Answer, Request
from caflow_runtime.service import SERVICES

GRPC_SERVICE = "inference.GRPCInferenceService"
GRPC_METHODS = ("ModelInfer", "ModelMetadata", "ModelReady", "ServerLive", "ServerMetadata", "ServerReady")
SHUTDOWN_STEP_S = 0.1
LOG = logging.getLogger("ray.serve")
SPARE_BYTES = 2**16
"""Of a request beside its pixels."""


@dataclass(frozen=True)
class Settings:
    """Of each replica."""

    bundle: Path
    backend: BackendName
    threads: int
    max_pixels: int
    """Of the results of one request, all samples counted."""
    deadline: float
    """Seconds that a request may take."""
    max_batch: int
    """Requests that are computed together."""
    max_wait: float
    """Seconds that a request waits for others, where nothing is computed that it has to wait for."""


@dataclass(frozen=True)
class Waiting:
    """A request that came, and its answer to be."""

    model: str
    request: Request
    answer: asyncio.Future[Answer]


class Replica:
    """What Ray Serve runs, as often as it is told; `application` makes it."""

    def __init__(self, settings: Settings) -> None:
        """Open the bundle."""
        self.settings = settings
        self.pipe = load(settings.bundle, settings.backend, settings.threads)
        name = settings.bundle.stem
        services = [kind(self.pipe, settings.max_pixels, RayInstruments(name + kind.suffix)) for kind in SERVICES]
        self.services = {service.name: service for service in services}
        self.max_body = SPARE_BYTES + 6 * settings.max_pixels  # a target and its condition, the largest
        self.waiting: deque[Waiting] = deque()
        self.computing: asyncio.Task[None] | None = None
        self.began: float | None = None
        """When the batch that is computed was."""
        self.pipe_is_used = Lock()

    async def check_health(self) -> None:
        """Ray Serve replaces a replica for which this fails."""
        if self.began is None:
            await self._check()
        elif time.monotonic() - self.began > 2 * self.settings.deadline:
            raise RuntimeError("a batch has been computed for longer than twice the deadline")

    async def __call__(self, request: HttpRequest) -> Response:
        """HTTP."""
        try:
            body, headers = await self._routed(request)
        except Exception as error:
            code, _ = protocol.status(error)
            _log_unexpected(error, code)
            return JSONResponse({"error": protocol.text(error)}, code)
        return Response(body, 200, headers)

    async def _routed(self, request: HttpRequest) -> tuple[bytes, dict[str, str]]:
        match (request.method, *request.url.path.strip("/").split("/")):
            case ("GET", "v2"):
                return _json(protocol.server_metadata())
            case ("GET", "v2", "health", "live"):
                return _json({"live": True})
            case ("GET", "v2", "health", "ready"):
                await self._check()
                return _json({"ready": True})
            case ("GET", "v2", "models", name, *version, "ready") if len(version) in (0, 2):
                await self._check()
                return _json({"name": protocol.find(self.services, name, *version[1:]).name, "ready": True})
            case ("GET", "v2", "models", name, *version) if len(version) in (0, 2):
                return _json(protocol.metadata(protocol.find(self.services, name, *version[1:])))
            case ("POST", "v2", "models", name, *version, "infer") if len(version) in (0, 2):
                return await self._infer(name, version[1:], request)
        raise protocol.UnknownModel(f"{request.method} {request.url.path}: there is nothing of the protocol v2")

    async def _infer(self, name: str, version: Sequence[str], request: HttpRequest) -> tuple[bytes, dict[str, str]]:
        service = protocol.find(self.services, name, *version)
        body = await self._body(request)
        header, asked = await asyncio.to_thread(protocol.read_http, body, request.headers.get(protocol.HEADER_LENGTH))
        protocol.check_outputs(service, header.outputs)
        tensors = await self._answer(name, asked, protocol.deadline(header.parameters))
        return await asyncio.to_thread(protocol.write_http, service, header, tensors)

    async def _body(self, request: HttpRequest) -> bytes:
        if encoding := request.headers.get("Content-Encoding"):
            raise InputError(f"Content-Encoding: {encoding}: wanted none")
        body = bytearray()
        async for part in request.stream():
            body += part
            self._check_size(len(body))
        return bytes(body)

    def _check_size(self, size: int) -> None:
        if size > self.max_body:
            raise protocol.TooLarge(f"the request: wanted at most {self.max_body} bytes")

    async def ModelInfer(self, message: bytes, grpc_context: Any) -> Any:  # noqa: N802 - the protocol's names
        reply = service_pb2.ModelInferResponse()
        with _refusing(grpc_context):
            self._check_size(len(message))
            request = await asyncio.to_thread(_parsed, service_pb2.ModelInferRequest, message)
            service = protocol.find(self.services, request.model_name, request.model_version)
            protocol.check_outputs(service, request.outputs)
            seconds = protocol.deadline(protocol.grpc_parameters(request))
            asked = await asyncio.to_thread(protocol.read_grpc, request)
            tensors = await self._answer(service.name, asked, seconds)
            await asyncio.to_thread(protocol.write_grpc, service, request, tensors, reply)
        return reply

    async def ModelMetadata(self, message: bytes, grpc_context: Any) -> Any:  # noqa: N802
        reply = service_pb2.ModelMetadataResponse()
        with _refusing(grpc_context):
            request = _parsed(service_pb2.ModelMetadataRequest, message)
            ParseDict(protocol.metadata(protocol.find(self.services, request.name, request.version)), reply)
        return reply

    async def ModelReady(self, message: bytes, grpc_context: Any) -> Any:  # noqa: N802
        reply = service_pb2.ModelReadyResponse()
        with _refusing(grpc_context):
            request = _parsed(service_pb2.ModelReadyRequest, message)
            protocol.find(self.services, request.name, request.version)
            await self._check()
            reply.ready = True
        return reply

    async def ServerLive(self, _: bytes) -> Any:  # noqa: N802
        return service_pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, _: bytes, grpc_context: Any) -> Any:  # noqa: N802
        with _refusing(grpc_context):
            await self._check()
        return service_pb2.ServerReadyResponse(ready=True)

    async def ServerMetadata(self, _: bytes) -> Any:  # noqa: N802
        return ParseDict(protocol.server_metadata(), service_pb2.ServerMetadataResponse())

    async def _answer(self, name: str, request: Request, seconds: float | None) -> Any:
        """The tensors of one request, computed with those of others.

        Raises:
            CaflowError, MemoryError, TimeoutError
        """
        limit = min(seconds or self.settings.deadline, self.settings.deadline)
        until = time.monotonic() + limit
        one = Waiting(name, replace(request, until=until), asyncio.get_running_loop().create_future())
        self.waiting.append(one)
        if self.computing is None:
            self.computing = asyncio.create_task(self._compute())
        async with asyncio.timeout(limit):
            answer = await one.answer
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def _compute(self) -> None:
        """Batch after batch, until nobody waits. (Ray Serve's own batches are closed while another is computed, so
        that each would hold few requests.)
        """
        try:
            await asyncio.sleep(self.settings.max_wait)
            while self.waiting:
                size = min(len(self.waiting), self.settings.max_batch)
                batch = [one for one in (self.waiting.popleft() for _ in range(size)) if not one.answer.done()]
                self.began = time.monotonic()
                answers = await asyncio.to_thread(self._answers, batch)
                for one, answer in zip(batch, answers, strict=True):
                    if not one.answer.done():  # else it is late, or its client has gone
                        one.answer.set_result(answer)
        finally:
            self.began = self.computing = None

    def _answers(self, batch: Sequence[Waiting]) -> list[Any]:
        """Or what was wrong, for each."""
        answers: dict[int, Any] = {}
        for name, service in self.services.items():
            places = [k for k, one in enumerate(batch) if one.model == name]
            try:
                with self.pipe_is_used:
                    found: Sequence[Any] = service.answer([batch[k].request for k in places])
            except Exception as error:  # others still want theirs
                found = [error] * len(places)
            answers |= zip(places, found, strict=True)
        return [answers[k] for k in range(len(batch))]

    async def _check(self) -> None:
        """Whether this replica computes; while it does, that is known."""
        if self.began is None:
            await asyncio.to_thread(self._check_service)

    def _check_service(self) -> None:
        with self.pipe_is_used:
            next(iter(self.services.values())).check()


def application(settings: Settings, replicas: int, cpus: float, gpus: float, max_queue: int) -> serve.Application:
    """What `serve.run` runs.

    Arguments:
        cpus, gpus: of each replica.
        max_queue: requests that wait; more are refused.
    """
    deployment: Any = serve.deployment(
        Replica,
        name="caflow",
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        max_ongoing_requests=2 * settings.max_batch,  # one batch is computed, the next one gathers
        max_queued_requests=max_queue,
        graceful_shutdown_timeout_s=settings.deadline,
        graceful_shutdown_wait_loop_s=SHUTDOWN_STEP_S,
    )
    bound: serve.Application = deployment.bind(settings)
    return bound


def add_inference_service(servicer: Any, server: Any) -> None:
    """What Ray Serve's proxy is told of the protocol's gRPC service: messages go to a replica as bytes.

    Their classes cannot be pickled, as tritonclient has them in a module that no other process finds.
    """
    handlers = {name: grpc.unary_unary_rpc_method_handler(getattr(servicer, name)) for name in GRPC_METHODS}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(GRPC_SERVICE, handlers),))


@contextmanager
def _refusing(context: Any) -> Iterator[None]:
    """What is raised becomes the status that a gRPC call ends with."""
    try:
        yield
    except Exception as error:
        http, code = protocol.status(error)
        _log_unexpected(error, http)
        context.set_code(grpc.StatusCode[code])
        context.set_details(protocol.text(error))


def _log_unexpected(error: Exception, status: int) -> None:
    """Where it came from, as a client is not told."""
    if status == 500:
        LOG.error("caflow: a request failed", exc_info=error)


def _parsed(kind: Any, message: bytes) -> Any:
    try:
        return kind.FromString(message)
    except DecodeError as error:
        raise InputError(f"no {kind.DESCRIPTOR.name}: {error}") from None


def _json(value: Any) -> tuple[bytes, dict[str, str]]:
    return msgspec.json.encode(value), {"Content-Type": "application/json"}
