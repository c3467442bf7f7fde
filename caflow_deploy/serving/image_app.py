"""HTTP addresses that take an image file and answer with an image file: /enlarge, /inpaint and /colorize."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar, get_args

from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request as HttpRequest

from caflow_deploy.serving.body_limiter import BodyLimiter
from caflow_deploy.serving.client_left import unless_gone
from caflow_deploy.serving.image_requests import ImageAnswer, ImageModels, ImageRequest, Task
from caflow_runtime.errors import InputError

Value = TypeVar("Value")

TASKS: tuple[Task, ...] = get_args(Task)
ARRIVES_S, MAX_HELD = 300.0, 8
"""Timeout for a whole body, in seconds, and number of bodies of the largest size for which there is memory."""
MAX_FILES, MAX_FIELDS, MAX_FIELD_BYTES = 2, 32, 2**12
"""Largest numbers of files and of other fields in a form, and largest size of such a field."""


class ImageBackend(Protocol):
    """Interface of the object that computes the answers of checked requests."""

    async def answer_image(self, request: ImageRequest) -> ImageAnswer:
        """Return the answer to a request. The call is cancelled at the request's deadline.

        Raises:
            CaflowError, Failure, MemoryError: if the request fails.
        """


@dataclass(frozen=True)
class ImageApp:
    """Handler of requests with image files."""

    models: ImageModels
    backend: ImageBackend
    bodies: BodyLimiter
    deadline: float
    """Maximum time from the arrival of a whole request to its answer, in seconds, for results of up to `pixels`. For
    larger results it is multiplied by their number of pixels divided by `pixels`."""
    pixels: int
    """Number of pixels of results, over all samples, to which `deadline` applies."""

    async def answer(self, task: Task, request: HttpRequest) -> tuple[bytes, dict[str, str]]:
        """Return the body and the headers of the answer.

        Raises:
            ClientDisconnect: if the client disconnects.
            CaflowError, Failure, MemoryError, TimeoutError: if the request is wrong, or fails.
        """
        self.bodies.check_headers(request.headers)
        async with self.bodies.read(request.stream()) as body:
            files, given = await _parts(request, body)
            parameters = _by_name([*request.query_params.multi_items(), *given])
            wanted = await asyncio.to_thread(self.models.request, task, files, parameters)
            async with asyncio.timeout(self.deadline * max(1.0, wanted.pixels / self.pixels)) as limit:
                until = limit.when()  # by the clock of the loop, which is `time.monotonic`
                assert until is not None
                answer = self.backend.answer_image(replace(wanted, until=until))
                made = await unless_gone(request.receive, answer)
        return made.contents, made.headers


def image_bodies(models: ImageModels) -> BodyLimiter:
    """Return the limiter for bodies with image files."""
    return BodyLimiter(models.most_bytes, seconds=ARRIVES_S, most_held=MAX_HELD)


async def _parts(request: HttpRequest, body: bytearray) -> tuple[dict[str, bytes], list[tuple[str, str]]]:
    """Return the files of a form by name, and the other fields with their names. A body that is no form is the image.

    Raises:
        InputError: if the form is malformed, has too many parts, or two files of one name.
    """
    if not request.headers.get("Content-Type", "").startswith("multipart/form-data"):
        return {"image": bytes(body)}, []

    async def stream() -> AsyncGenerator[bytes, None]:
        yield bytes(body)

    parser = MultiPartParser(
        request.headers, stream(), max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise InputError(f"the form is malformed: {error.message}") from None
    try:
        parts = form.multi_items()
        fields = [(name, value) for name, value in parts if isinstance(value, str)]
        return _by_name([(name, await value.read()) for name, value in parts if not isinstance(value, str)]), fields
    finally:
        await form.close()


def _by_name(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    """Return named values as a dict.

    Raises:
        InputError: if a name is given twice, because it is unclear which of the values counts.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for k, (name, _) in enumerate(pairs) if name in dict(pairs[:k]))
        raise InputError(f"{twice} is given twice: give it once")
    return found
