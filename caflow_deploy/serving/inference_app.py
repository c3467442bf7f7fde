"""HTTP and gRPC handlers of the Open Inference Protocol v2.

A front receives and checks requests, and passes them to an `InferenceBackend`. The backend only gets complete requests
of the right form.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import grpc
import msgspec
from google.protobuf.json_format import ParseDict
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from tritonclient.grpc import service_pb2

from caflow_deploy.serving import failures
from caflow_deploy.serving import open_inference as protocol
from caflow_deploy.serving import open_inference_grpc as messages
from caflow_deploy.serving.body_limiter import BodyLimiter, shorten_deadline
from caflow_deploy.serving.request import Request, Tensors
from caflow_deploy.serving.served_models import SERVICES
from caflow_runtime.errors import InputError

GRPC_SERVICE = "inference.GRPCInferenceService"
LOG = logging.getLogger("caflow.serve")
CLOSE = {"Connection": "close"}
"""Header of error replies. It closes the connection, because the rest of the body may still arrive."""


class InferenceBackend(Protocol):
    """Interface of the object that computes the answers of checked requests."""

    async def answer(self, model: str, request: Request) -> Tensors:
        """Return the output tensors of one request. The call is cancelled at the request's deadline.

        Arguments:
            model: name of the model.

        Raises:
            CaflowError, Failure, MemoryError: if the request fails.
        """

    async def check(self) -> None:
        """Raise an exception if the object cannot compute answers."""


@dataclass(frozen=True)
class InferenceApp:
    """Handlers for the HTTP and gRPC servers."""

    models: Mapping[str, protocol.Model]
    backend: InferenceBackend
    bodies: BodyLimiter
    deadline: float
    """Maximum time from the arrival of a whole request to its answer, in seconds."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one HTTP request, as an ASGI application."""
        request = HttpRequest(scope, receive)
        try:
            body, headers = await self._routed(request)
            response = Response(body, 200, headers)
        except ClientDisconnect:
            return
        except Exception as error:
            failure = _failure(error)
            response = JSONResponse({"error": failure.text}, failure.http, CLOSE)
        await response(scope, receive, send)

    async def _routed(self, request: HttpRequest) -> tuple[bytes, dict[str, str]]:
        method = "GET" if request.method == "HEAD" else request.method  # Uvicorn sends no body after HEAD
        match (method, *request.url.path.strip("/").split("/")):
            case ("GET", "v2"):
                return _json(protocol.server_metadata())
            case ("GET", "v2", "health", "live"):
                return _json({"live": True})
            case ("GET", "v2", "health", "ready"):
                await self._check()
                return _json({"ready": True})
            case ("GET", "v2", "models", name, *version, "ready") if _is_version(version):
                await self._check()
                return _json({"name": protocol.find(self.models, name, *version[1:]).name, "ready": True})
            case ("GET", "v2", "models", name, *version) if _is_version(version):
                return _json(protocol.metadata(protocol.find(self.models, name, *version[1:])))
            case ("POST", "v2", "models", name, *version, "infer") if _is_version(version):
                return await self._infer(protocol.find(self.models, name, *version[1:]), request)
        raise failures.UnknownModel(
            f"{request.method} {request.url.path}: the Open Inference Protocol v2 has no such address"
        )

    async def _infer(self, model: protocol.Model, request: HttpRequest) -> tuple[bytes, dict[str, str]]:
        if encoding := request.headers.get("Content-Encoding"):
            raise InputError(f"Content-Encoding is not supported: send the body uncompressed; got {encoding}")
        self.bodies.check_length(request.headers.get("Content-Length"))
        async with self.bodies.read(request.stream()) as body, asyncio.timeout(self.deadline) as limit:
            length = request.headers.get(protocol.HEADER_LENGTH)
            header, asked = await asyncio.to_thread(protocol.read_http, body, length)
            protocol.check_outputs(model, header.outputs)
            answer = self._answer(model, asked, header.parameters, limit)
            tensors = await _unless_gone(request.receive, answer)
            return await asyncio.to_thread(protocol.write_http, model, header, tensors)

    async def _answer(
        self, model: protocol.Model, asked: Request, parameters: Mapping[str, Any], limit: asyncio.Timeout
    ) -> Tensors:
        """Compute an answer within the deadline, or within the client's own timeout if that is shorter."""
        until = shorten_deadline(limit, parameters)
        return await self.backend.answer(model.name, replace(asked, until=until))

    async def _check(self) -> None:
        async with asyncio.timeout(self.deadline):
            await self.backend.check()

    async def ModelInfer(self, message: bytes) -> Any:  # noqa: N802 - names of the protocol
        async with asyncio.timeout(self.deadline) as limit:
            request = await asyncio.to_thread(messages.parse_request, message)
            model = protocol.find(self.models, request.model_name, request.model_version)
            asked = await asyncio.to_thread(messages.read_request, request)
            protocol.check_outputs(model, request.outputs)
            tensors = await self._answer(model, asked, messages.parameters_of(request), limit)
            reply = service_pb2.ModelInferResponse()
            await asyncio.to_thread(messages.write_reply, model, request, tensors, reply)
            return reply

    async def ModelMetadata(self, message: bytes) -> Any:  # noqa: N802
        request = messages.parse(service_pb2.ModelMetadataRequest, message)
        found = protocol.metadata(protocol.find(self.models, request.name, request.version))
        return ParseDict(found, service_pb2.ModelMetadataResponse())

    async def ModelReady(self, message: bytes) -> Any:  # noqa: N802
        request = messages.parse(service_pb2.ModelReadyRequest, message)
        protocol.find(self.models, request.name, request.version)
        await self._check()
        return service_pb2.ModelReadyResponse(ready=True)

    async def ServerLive(self, _: bytes) -> Any:  # noqa: N802
        return service_pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, _: bytes) -> Any:  # noqa: N802
        await self._check()
        return service_pb2.ServerReadyResponse(ready=True)

    async def ServerMetadata(self, _: bytes) -> Any:  # noqa: N802
        return ParseDict(protocol.server_metadata(), service_pb2.ServerMetadataResponse())

    def grpc_handlers(self) -> Any:
        """Return the handlers of the gRPC service, for a server of `grpc.aio`.

        Each request is read as a stream of one message, because only streams allow a timeout for the arrival.
        """
        methods = (
            *(self.ModelInfer, self.ModelMetadata, self.ModelReady),
            *(self.ServerLive, self.ServerMetadata, self.ServerReady),
        )
        handlers = {method.__name__: grpc.stream_unary_rpc_method_handler(self._called(method)) for method in methods}
        return grpc.method_handlers_generic_handler(GRPC_SERVICE, handlers)

    def _called(self, method: Callable[[bytes], Awaitable[Any]]) -> Any:
        async def call(_: Any, context: Any) -> bytes:
            async def receive() -> bytes:
                message = await context.read()
                return b"" if message is grpc.aio.EOF else message

            try:
                async with self.bodies.read_message(receive) as message:
                    reply = await method(message)
                    return bytes(reply.SerializeToString())
            except Exception as error:
                failure = _failure(error)
                await context.abort(grpc.StatusCode[failure.grpc], failure.text)
                raise

        return call


def models_of(stem: str, condition_channels: int = 3) -> dict[str, protocol.Model]:
    """Return the models of a bundle, by their names.

    Arguments:
        stem: name of the bundle, without its extension.
        condition_channels: number of channels of the model's conditions.
    """
    models = [protocol.Model(stem + kind.suffix, kind.inputs_of(condition_channels), kind.outputs) for kind in SERVICES]
    return {model.name: model for model in models}


async def _unless_gone(receive: Callable[[], Awaitable[Any]], answer: Awaitable[Tensors]) -> Tensors:
    """Return the answer. It is cancelled if the client disconnects.

    Raises:
        ClientDisconnect: if the client disconnects.
    """

    async def leave() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    answering, leaving = asyncio.ensure_future(answer), asyncio.ensure_future(leave())
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientDisconnect
        return answering.result()
    finally:
        answering.cancel()
        leaving.cancel()


def _failure(error: Exception) -> failures.Failure:
    """Return an error in the form that clients get, and log unexpected errors. Clients do not get the traceback."""
    failure = failures.failure_of(error)
    if failure.http == 500:
        LOG.error("caflow: a request failed", exc_info=error)
    return failure


def _is_version(parts: list[str]) -> bool:
    """Return whether the part of an address between the model and the end is a version, or empty."""
    return not parts or (len(parts) == 2 and parts[0] == "versions")


def _json(value: Any) -> tuple[bytes, dict[str, str]]:
    return msgspec.json.encode(value), {"Content-Type": "application/json"}
