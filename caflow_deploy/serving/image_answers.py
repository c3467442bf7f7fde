"""Answers to requests with image files: results of the library's functions, with their verdicts as HTTP headers."""

import time
from collections.abc import Callable
from math import isnan
from pathlib import Path
from typing import Any

from msgspec import structs

from caflow_deploy.images.any_image import as_image_file
from caflow_deploy.images.image_files import check_suffix
from caflow_deploy.images.image_headers import format_of
from caflow_deploy.images.image_result import ImageResult
from caflow_deploy.images.open_models import RunOptions
from caflow_deploy.images.tasks import OutputOptions, colorize, enlarge, inpaint
from caflow_deploy.serving.image_requests import ImageAnswer, ImageRequest
from caflow_runtime.bundle.builtin import DEFAULT
from caflow_runtime.errors import InputError, UnreadableImage
from caflow_runtime.pipeline.choice import Untypical

CountOutcome = Callable[[str, str], None]
"""Counts the outcome of a request for metrics: takes the name of the model, and the outcome."""


def answer_image(request: ImageRequest, run: RunOptions, count: CountOutcome) -> ImageAnswer:
    """Return the result of a request as a file.

    Raises:
        TimeoutError: if the deadline has passed, before or after the work.
        CaflowError, MemoryError: as from `enlarge`, `inpaint` and `colorize`.
    """
    model = DEFAULT if request.model is None else request.model.stem
    try:
        _check_deadline(request)
        result = _drawn(request, run)
        contents = result.encoded(_suffix(request), quality=request.parameters.quality)
        _check_deadline(request)
    except (InputError, UnreadableImage):
        raise  # a wrong request is no error of the server
    except Exception as error:
        count(model, "rejected" if isinstance(error, Untypical) else "error")
        raise
    count(result.model, _verdict(result))
    return ImageAnswer(contents, {"Content-Type": f"image/{_kind(request)}", **_headers(result)})


def _drawn(request: ImageRequest, run: RunOptions) -> ImageResult:
    run = structs.replace(run, mask_marks=request.parameters.mask_marks)
    image = as_image_file(request.files["image"], run.max_pixels)
    check_suffix(Path(f"image{_suffix(request)}"), image.alpha is not None)  # before it is drawn
    given: dict[str, Any] = {"options": request.options, "output": OutputOptions(judge_as=_suffix(request)), "run": run}
    if request.model is not None:
        given["model"] = request.model
    match request.task:
        case "enlarge":
            return enlarge(image, size=request.size, **given)
        case "inpaint":
            return inpaint(image, request.files["mask"], **given)
        case "colorize":
            return colorize(image, request.files.get("hints", ()), **given)


def _headers(result: ImageResult) -> dict[str, str]:
    """Return what a client should know of a result. Characters that HTTP does not allow in headers are replaced."""
    typicality = _typicality(result)
    found = {
        "Model": result.model,
        "Reason": result.choice and result.choice.reason,
        "Verdict": _verdict(result),
        "Typicality": None if typicality is None else f"{typicality:.3f}",
        "Bits-Per-Dim": result.bits_per_dim and f"{result.bits_per_dim:.3f}",
        "Filled": result.filled and f"{result.filled:.4f}",
        "Warning": "; ".join(result.warnings),
    }
    texts = {f"Caflow-{name}": text for name, text in found.items() if text}
    return {name: text.encode("latin-1", "replace").decode("latin-1") for name, text in texts.items()}


def _typicality(result: ImageResult) -> float | None:
    """Return the typicality of a result, 0…1; None if it is not known."""
    known = result.typicality
    return None if known is None or isnan(known.value) else float(known.value)


def _verdict(result: ImageResult) -> str:
    """Return the outcome of a result. Where nothing was rejected, it says how usual the result is, if this is known."""
    if result.outcome != "unjudged" or _typicality(result) is None:
        return result.outcome
    return "unusual" if result.is_unusual else "usual"


def _kind(request: ImageRequest) -> str:
    """Return the format of the result, as in `ImageParameters.format`, by its name in MIME types."""
    wanted = request.parameters.format
    found = format_of(request.files["image"]) or "png" if wanted == "source" else wanted
    return "jpeg" if found == "jpg" else found


def _suffix(request: ImageRequest) -> str:
    return f".{_kind(request)}"


def _check_deadline(request: ImageRequest) -> None:
    if request.until < time.monotonic():
        raise TimeoutError("the deadline of the request has passed")
