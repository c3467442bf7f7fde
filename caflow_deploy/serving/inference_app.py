"""HTTP handlers of the Open Inference Protocol v2, and of image files.

A front receives and checks requests, and passes them to a backend, which only gets complete requests of the right form.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from caflow_deploy.serving import failures
from caflow_deploy.serving import open_inference as protocol
from caflow_deploy.serving.body_limiter import BodyLimiter, shorten_deadline
from caflow_deploy.serving.client_left import unless_gone
from caflow_deploy.serving.image_app import TASKS, ImageApp
from caflow_deploy.serving.request import Request, Tensors
from caflow_deploy.serving.served_models import SERVICES

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
    """Handlers for the HTTP server."""

    models: Mapping[str, protocol.Model]
    backend: InferenceBackend
    bodies: BodyLimiter
    deadline: float
    """Maximum time from the arrival of a whole request to its answer, in seconds."""
    images: ImageApp
    """Handler of image files."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one HTTP request, as an ASGI application."""
        request = HttpRequest(scope, receive)
        try:
            body, headers = await self._routed(request)
            response = Response(body, 200, headers)
        except ClientDisconnect:
            return
        except Exception as error:
            failure = failures.failure_of(error)
            if failure.status == 500:
                LOG.error("caflow: a request failed", exc_info=error)  # clients do not get the traceback
            allow = {"Allow": "POST"} if failure.status == failures.STATUS[failures.WrongMethod] else {}
            response = JSONResponse({"error": failure.text}, failure.status, CLOSE | allow)
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
            case ("POST", task) if task in TASKS:
                return await self.images.answer(task, request)
            case (_, task) if task in TASKS:
                raise failures.WrongMethod(f"/{task} takes POST requests with an image file; got {request.method}")
        raise failures.UnknownModel(
            f"{request.method} {request.url.path}: there is no such address; POST image files to one of "
            f"{', '.join(f'/{task}' for task in TASKS)}, and tensors to those of the Open Inference Protocol v2"
        )

    async def _infer(self, model: protocol.Model, request: HttpRequest) -> tuple[bytes, dict[str, str]]:
        self.bodies.check_headers(request.headers)
        async with self.bodies.read(request.stream()) as body, asyncio.timeout(self.deadline) as limit:
            length = request.headers.get(protocol.HEADER_LENGTH)
            header, asked = await asyncio.to_thread(protocol.read_http, body, length)
            protocol.check_outputs(model, header.outputs)
            until = shorten_deadline(limit, header.parameters)
            answer = self.backend.answer(model.name, replace(asked, until=until))
            tensors = await unless_gone(request.receive, answer)
            return await asyncio.to_thread(protocol.write_http, model, header, tensors)

    async def _check(self) -> None:
        async with asyncio.timeout(self.deadline):
            await self.backend.check()


def models_of(stem: str, condition_channels: int = 3) -> dict[str, protocol.Model]:
    """Return the models of a bundle, by their names.

    Arguments:
        stem: name of the bundle, without its extension.
        condition_channels: number of channels of the model's conditions.
    """
    models = [protocol.Model(stem + kind.suffix, kind.inputs_of(condition_channels), kind.outputs) for kind in SERVICES]
    return {model.name: model for model in models}


def _is_version(parts: list[str]) -> bool:
    """Return whether the part of an address between the model and the end is a version, or empty."""
    return not parts or (len(parts) == 2 and parts[0] == "versions")


def _json(value: Any) -> tuple[bytes, dict[str, str]]:
    return msgspec.json.encode(value), {"Content-Type": "application/json"}
