"""A server of the Open Inference Protocol v2 in Ray Serve: replicas that hold a pipeline each, behind one address."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc
import msgspec
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError
from ray import serve
from ray.util import metrics
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from tritonclient.grpc import service_pb2

from caflow_deploy.serving import open_inference as protocol
from caflow_runtime.backends.select import BackendName
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline import load
from caflow_runtime.service import SERVICES, Answer, Request

GRPC_SERVICE = "inference.GRPCInferenceService"
GRPC_METHODS = ("ModelInfer", "ModelMetadata", "ModelReady", "ServerLive", "ServerMetadata", "ServerReady")
SHUTDOWN_STEP_S = 0.1
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


class Replica:
    """What Ray Serve runs, as often as it is told; `application` makes it."""

    def __init__(self, settings: Settings, max_batch: int, max_wait: float) -> None:
        """Open the bundle.

        Arguments:
            max_batch: requests that are computed together.
            max_wait: seconds that the first of them waits for more.
        """
        self.settings = settings
        self.pipe = load(settings.bundle, settings.backend, settings.threads)
        name = settings.bundle.stem
        services = [kind(self.pipe, settings.max_pixels, RayInstruments(name + kind.suffix)) for kind in SERVICES]
        self.services = {service.name: service for service in services}
        self.max_body = SPARE_BYTES + 6 * settings.max_pixels  # a target and its condition, the largest
        self.began: float | None = None
        batches: Any = self._compute
        batches.set_max_batch_size(max_batch)
        batches.set_batch_wait_timeout_s(max_wait)

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
        tensors = await self._answer(name, asked, protocol.deadline(header.parameters))
        return await asyncio.to_thread(protocol.write_http, service, header, tensors)

    async def _body(self, request: HttpRequest) -> bytes:
        if encoding := request.headers.get("Content-Encoding"):
            raise InputError(f"Content-Encoding: {encoding}: wanted none")
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > self.max_body:
                raise protocol.TooLarge(f"the request: wanted at most {self.max_body} bytes")
        return bytes(body)

    async def ModelInfer(self, message: bytes, grpc_context: Any) -> Any:  # noqa: N802 - the protocol's names
        reply = service_pb2.ModelInferResponse()
        with _refusing(grpc_context):
            request = _parsed(service_pb2.ModelInferRequest, message)
            service = protocol.find(self.services, request.model_name, request.model_version)
            seconds = protocol.deadline(protocol.grpc_parameters(request))
            tensors = await self._answer(service.name, protocol.read_grpc(request), seconds)
            protocol.write_grpc(service, request, tensors, reply)
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
        async with asyncio.timeout(min(seconds or self.settings.deadline, self.settings.deadline)):
            (answer,) = await self._compute((name, request))
        if isinstance(answer, BaseException):
            raise answer
        return answer

    @serve.batch
    async def _compute(self, asked: list[tuple[str, Request]]) -> list[list[Answer]]:
        """One batch at a time. Ray Serve would raise an answer that is an error, so each is in a list."""
        self.began = time.monotonic()
        try:
            return await asyncio.to_thread(self._answers, asked)
        finally:
            self.began = None

    def _answers(self, asked: list[tuple[str, Request]]) -> list[list[Answer]]:
        answers: dict[int, Answer] = {}
        for name, service in self.services.items():
            places = [k for k, (wanted, _) in enumerate(asked) if wanted == name]
            answers |= zip(places, service.answer([asked[k][1] for k in places]), strict=True)
        return [[answers[k]] for k in range(len(asked))]

    async def _check(self) -> None:
        """Whether this replica computes; while it does, that is known."""
        if self.began is None:
            await asyncio.to_thread(next(iter(self.services.values())).check)


def application(
    settings: Settings, replicas: int, cpus: float, gpus: float, max_batch: int, max_wait: float, max_queue: int
) -> serve.Application:
    """What `serve.run` runs.

    Arguments:
        cpus, gpus: of each replica.
        max_batch, max_wait: as in `Replica`.
        max_queue: requests that wait; more are refused.
    """
    deployment: Any = serve.deployment(
        Replica,
        name="caflow",
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        max_ongoing_requests=2 * max_batch,  # one batch is computed, the next one gathers
        max_queued_requests=max_queue,
        graceful_shutdown_timeout_s=settings.deadline,
        graceful_shutdown_wait_loop_s=SHUTDOWN_STEP_S,
    )
    bound: serve.Application = deployment.bind(settings, max_batch, max_wait)
    return bound


def add_inference_service(servicer: Any, server: Any) -> None:
    """What Ray Serve's proxy is told of the protocol's gRPC service: messages go to a replica as bytes.

    Their classes cannot be pickled, as tritonclient has them in a module that no other process finds.
    """
    handlers = {name: grpc.unary_unary_rpc_method_handler(getattr(servicer, name)) for name in GRPC_METHODS}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(GRPC_SERVICE, handlers),))


class RayInstruments:
    """Counts for Ray's own endpoints, one on each node, under the names of `Metrics` with `ray_` before them.

    Ray shows a counter only once it has counted, and takes no ends of buckets at or below 0.
    """

    def __init__(self, model: str) -> None:
        self.model = model

    def counter(self, name: str, text: str, labels: Sequence[str]) -> Any:
        return Instrument(metrics.Counter(name, text, self._keys(labels)), labels, {"model": self.model})

    def gauge(self, name: str, text: str, labels: Sequence[str]) -> Any:
        return Instrument(metrics.Gauge(name, text, self._keys(labels)), labels, {"model": self.model})

    def histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Any:
        ends = [end for end in buckets if end > 0]
        return Instrument(metrics.Histogram(name, text, ends, self._keys(labels)), labels, {"model": self.model})

    def _keys(self, labels: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(["model", *labels]))


@dataclass(frozen=True)
class Instrument:
    """One of Ray's, with the values of its labels."""

    metric: Any
    names: Sequence[str]
    tags: dict[str, str]

    def labels(self, *values: str) -> Self:
        """The same for these values; the model stays."""
        return type(self)(self.metric, (), dict(zip(self.names, values, strict=True)) | self.tags)

    def inc(self, amount: float = 1) -> None:
        """Count."""
        if amount:  # Ray refuses 0
            self.metric.inc(amount, self.tags)

    def set(self, value: float) -> None:
        """Of a gauge."""
        self.metric.set(value, self.tags)

    def observe(self, value: float) -> None:
        """Of a histogram."""
        self.metric.observe(value, self.tags)


@contextmanager
def _refusing(context: Any) -> Iterator[None]:
    """What is raised becomes the status that a gRPC call ends with."""
    try:
        yield
    except Exception as error:
        _, code = protocol.status(error)
        context.set_code(grpc.StatusCode[code])
        context.set_details(protocol.text(error))


def _parsed(kind: Any, message: bytes) -> Any:
    try:
        return kind.FromString(message)
    except DecodeError as error:
        raise InputError(f"no {kind.DESCRIPTOR.name}: {error}") from None


def _json(value: Any) -> tuple[bytes, dict[str, str]]:
    return msgspec.json.encode(value), {"Content-Type": "application/json"}
