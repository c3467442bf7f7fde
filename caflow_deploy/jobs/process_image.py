"""Processing of one image file: read it, draw its result, write the files and report them.

`process_image` runs the whole job. `inspect_image` only reads the file and estimates the work.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from msgspec import UNSET

from caflow_deploy.images.drawing import draw_image
from caflow_deploy.images.file_search import MAX_IMAGE_PIXELS
from caflow_deploy.images.image_estimate import ImageEstimate, ImageProperties
from caflow_deploy.images.image_files import ImageFile, check_suffix, read_image, write_image
from caflow_deploy.images.image_headers import size_of_file
from caflow_deploy.images.image_result import ImageResult
from caflow_deploy.images.input_files import CompletedImage
from caflow_deploy.images.native_stderr import native_stderr
from caflow_deploy.images.result_pictures import with_rings
from caflow_deploy.jobs.folder import stamp_of
from caflow_deploy.jobs.image_job import ImageJob
from caflow_deploy.jobs.image_report import ImageReport, report_of
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.batching.runner import ShowWindows
from caflow_runtime.completion.hint_suggestions import suggest_hints
from caflow_runtime.errors import CaflowError, UnreadableImage, format_error
from caflow_runtime.file_io.paths import as_text
from caflow_runtime.pipeline.choice import Untypical
from caflow_runtime.pipeline.pipeline import Pipeline

NUMERICAL = (ArithmeticError, RuntimeError, np.linalg.LinAlgError)
"""Errors of libraries that compute. They end one image, not the job."""


@dataclass(frozen=True)
class ImageOutcome:
    """Outcome of one job: a report, or the reason why there is none."""

    job: ImageJob
    report: ImageReport | None = None
    """Report on the result; None if there is no result."""
    wrong: str | None = None
    """Message that says why there is no result; None if there is a result."""
    is_dropped: bool = False
    """Whether there is no result because all samples are untypical."""
    stamp: str | None = None
    """`stamp_of` the source, taken before the source was read; None if the job failed."""
    input_stamps: Mapping[str, str | None] = field(default_factory=dict)
    """`stamp_of` each file beside the source, by name, taken before it was read; empty if the job failed."""
    model: str | None = None
    """Name of the model, that of its bundle's folder; None if the job failed."""
    seconds: float | None = None
    """Time that it took; None if the job failed."""


@dataclass(frozen=True)
class ProgressCallbacks:
    """Callbacks that report the progress of one image."""

    begins: Callable[[ImageJob, ImageEstimate], None] | None = None
    """Called once the input has been read, before anything is computed."""
    windows: ShowWindows | None = None
    """Called after each run of the model, with the number of finished windows and their total in the current pass."""


def process_image(
    pipe: Pipeline,
    job: ImageJob,
    config: DrawOptions,
    callbacks: ProgressCallbacks = ProgressCallbacks(),
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> ImageOutcome:
    """Process one image: draw samples, write the files and return a report.

    Failures are returned, not raised, so that the remaining images are still processed.

    Arguments:
        config: how samples are drawn and the best one is chosen.
        max_pixels: largest number of pixels of the image file, as in `read_image`.
    """
    began = monotonic()
    stamp, stamps = stamp_of(job.source), {name: stamp_of(path) for name, path in job.inputs.items()}
    model, because = as_text(pipe.folder.stem), UNSET if job.choice is None else job.choice.reason
    said: list[str] = []
    try:
        with native_stderr() as said:
            given, need = inspect_image(pipe, job, config, max_pixels)
        if callbacks.begins is not None:
            callbacks.begins(job, need)
        image = CompletedImage.read(pipe, given, job.inputs, job.mask_marks)
        wanted = job.request(config, given, pipe.manifest.model.scale)
        result = draw_image(image, wanted, callbacks.windows)
        left_out, made = _write(job, result, image)
        warnings = [*dict.fromkeys(said), *result.warnings, *left_out] or UNSET
        made |= {"model": model, "model_because": because, "input_stamp": stamp, "warnings": warnings}
        report = report_of(job, result, wanted.config, bytes=job.output.stat().st_size, **made)
        took = monotonic() - began
        return ImageOutcome(job, report, stamp=stamp, input_stamps=stamps, model=model, seconds=took)
    except Untypical as error:
        wrong = f"{job.source}: {error.why}: dropped"
        try:
            _remove(job.outputs)
        except OSError as obstacle:
            kept = f"{obstacle.filename} of an earlier run cannot be removed ({obstacle.strerror}): remove it"
            return ImageOutcome(job, wrong=f"{wrong}, but {kept}")
        return ImageOutcome(job, wrong=wrong, is_dropped=True, stamp=stamp, input_stamps=stamps, model=model)
    except (CaflowError, OSError, MemoryError) as error:
        return ImageOutcome(job, wrong=refusal(job, error, said))
    except NUMERICAL as error:
        return ImageOutcome(job, wrong=f"{job.source}: a computation failed: {error}; report this image")


def inspect_image(
    pipe: Pipeline, job: ImageJob, config: DrawOptions, max_pixels: int = MAX_IMAGE_PIXELS
) -> tuple[ImageFile, ImageEstimate]:
    """Read the image of a job, and return it with an estimate of the work and memory for its result.

    If memory is too small even for the size in the file's header, the pixels are not read.

    Raises:
        InputError: if the result would be too large or its format does not suit it, or the image cannot be cut into
            tiles.
        UnreadableImage: if the file cannot be read as an image.
        TooLittleMemory: if the estimate exceeds the available memory.
    """
    check_claimed_size(pipe, job, config, max_pixels)
    given = read_image(job.source, max_pixels)
    need = job.estimate(pipe, config, ImageProperties.of(given, pipe.manifest.model))
    check_suffix(job.output, given.alpha is not None, need.wanted.form.bits)
    need.check_memory()
    return given, need


def check_claimed_size(pipe: Pipeline, job: ImageJob, config: DrawOptions, max_pixels: int) -> None:
    """Check that the memory suffices for an image of the size in its file's header. Its pixels are not read.

    Raises:
        InputError, TooLittleMemory: as from `inspect_image`.
    """
    size = size_of_file(job.source)
    if size is not None and size.width * size.height <= max_pixels:  # Assume 8 bits: more bits require more memory.
        job.estimate(pipe, config, ImageProperties(size.height, size.width)).check_memory()


def refusal(job: ImageJob, error: Exception, said: Sequence[str] = ()) -> str:
    """Return a message that names the source and says why there is no result.

    Arguments:
        said: messages of C libraries, such as decoders, which are appended.
    """
    why = format_error(error) or type(error).__name__
    if isinstance(error, UnreadableImage) and error.path == job.source:
        why = error.why
    return f"{job.source}: {'; '.join([why, *dict.fromkeys(said)])}"


def _write(job: ImageJob, result: ImageResult, image: CompletedImage) -> tuple[list[str], dict[str, Any]]:
    """Write the files of a result. Return messages about lost metadata, and what the report says of these files."""
    left_out, about = list[str](), dict[str, Any]()
    for k, path in enumerate((job.output, *job.others)[: len(result.pictures)]):
        left_out = result.save(path, k, force=True, quality=job.files.quality, metadata=job.files.metadata)
    if not result.is_sample:
        _remove([*job.others, *job.extras.values()])
        return left_out, about
    colours = result.given.metadata.colours()
    if "sheet" in job.extras:
        write_image(job.extras["sheet"], np.asarray(result.sheet()), metadata=colours)
    if "suggested" in job.extras:
        places = suggest_hints(result.given.rgb, job.files.suggest_hints or 0, image.inputs.get("hints"))
        best = result.pictures[0]
        marked = with_rings(best if result.form.bits == 8 else np.asarray(best >> 8, np.uint8), places)
        write_image(job.extras["suggested"], marked, metadata=colours)
        about |= {"suggested_hints": places} if places else {}
    if "likelihood" in job.extras:
        about["maps"] = {}
        for name, picture, darkest, brightest in result.maps():
            write_image(job.extras[name], picture)
            about["maps"][name] = [darkest, brightest]
    return left_out, about


def _remove(paths: Iterable[Path]) -> None:
    """Remove the files of an earlier result, if there are any."""
    for path in paths:
        path.unlink(missing_ok=True)
