"""Processing of one image file: read the file, draw samples, write the results and report them.

`process_image` runs the whole job. `inspect_image` only reads the file and estimates the work.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from caflow_deploy.images.alpha import draw_alpha
from caflow_deploy.images.image_estimate import ImageEstimate, ImageProperties
from caflow_deploy.images.image_files import ImageFile, check_suffix, read_image, write_image
from caflow_deploy.images.image_formats import MAX_IMAGE_PIXELS
from caflow_deploy.images.image_headers import header_of_file, size_of_file
from caflow_deploy.images.input_files import CompletedImage
from caflow_deploy.images.maps import pictures as maps_of
from caflow_deploy.images.matte import matted
from caflow_deploy.images.model_choice import jpeg_quality
from caflow_deploy.images.model_passes import ModelPasses, OutputSpec
from caflow_deploy.images.native_stderr import native_stderr
from caflow_deploy.images.rings import with_rings
from caflow_deploy.images.sheet import sheet
from caflow_deploy.jobs.folder import stamp_of
from caflow_deploy.jobs.image_job import LOSSLESS, ImageJob
from caflow_deploy.jobs.image_report import ImageReport, about_file, contradiction, report_of
from caflow_runtime.batching.runner import ShowWindows
from caflow_runtime.batching.sampling_config import SamplingConfig
from caflow_runtime.completion.hint_suggestions import suggest_hints
from caflow_runtime.errors import CaflowError, UnreadableImage, format_error
from caflow_runtime.file_io.path_text import as_text
from caflow_runtime.image_arrays import Image
from caflow_runtime.pipeline.choice import Untypical
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import REJECTED, Samples
from caflow_runtime.pipeline.sampling import ResultEncoding


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
    config: SamplingConfig,
    callbacks: ProgressCallbacks = ProgressCallbacks(),
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> ImageOutcome:
    """Process one image: draw samples, write the files and return a report.

    Failures are returned, not raised, so that the remaining images are still processed.

    Arguments:
        config: how samples are drawn and the best one is chosen.
        max_pixels: largest number of pixels of the image file, as in `read_image`.
    """
    stamp, stamps = stamp_of(job.source), {name: stamp_of(path) for name, path in job.inputs.items()}
    model, because = as_text(pipe.folder.stem), UNSET if job.choice is None else job.choice.reason
    said: list[str] = []
    try:
        with native_stderr() as said:
            given, need = inspect_image(pipe, job, config, max_pixels)
        if callbacks.begins is not None:
            callbacks.begins(job, need)
        report, about_result = _draw(pipe, job, config, callbacks.windows, given)
        warnings = [*dict.fromkeys(said), *given.warnings, *about_result] or UNSET
        size = job.output.stat().st_size
        made = {"model": model, "model_because": because, "input_stamp": stamp, "bytes": size, "warnings": warnings}
        report = msgspec.structs.replace(report, **made)
        return ImageOutcome(job, report, stamp=stamp, input_stamps=stamps, model=model)
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


def inspect_image(
    pipe: Pipeline, job: ImageJob, config: SamplingConfig, max_pixels: int = MAX_IMAGE_PIXELS
) -> tuple[ImageFile, ImageEstimate]:
    """Read the image of a job, and return it with an estimate of the work and memory for its result.

    If memory is too small even for the size in the file's header, the pixels are not read.

    Raises:
        InputError: if the result would be too large, or the image cannot be cut into tiles.
        UnreadableImage: if the file cannot be read as an image.
        TooLittleMemory: if the estimate exceeds the available memory.
    """
    check_claimed_size(pipe, job, config, max_pixels)
    given = read_image(job.source, max_pixels)
    height, width = given.rgb.shape[:2]
    is_grey = given.is_grey and pipe.manifest.model.keeps_gray
    alpha = given.alpha if pipe.manifest.model.scale > 1 else None
    is_alpha_drawn = alpha is not None and bool(np.ptp(alpha))
    need = job.estimate(
        pipe, config, ImageProperties(height, width, given.bits, given.alpha is not None, is_grey, is_alpha_drawn)
    )
    need.check_memory()
    return given, need


def check_claimed_size(pipe: Pipeline, job: ImageJob, config: SamplingConfig, max_pixels: int) -> None:
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


def _draw(
    pipe: Pipeline, job: ImageJob, config: SamplingConfig, show: ShowWindows | None, given: ImageFile
) -> tuple[ImageReport, list[str]]:
    """Write the files of an image. Return the report, and warnings about the result."""
    model = pipe.manifest.model
    height, width = given.rgb.shape[:2]
    form = job.form(height, width, given.bits, model.scale)
    check_suffix(job.output, given.alpha is not None, form.bits)
    if not form.size.passes:
        return _reduce(job, given, form)
    needs_all = job.wants_all(config)
    is_grey = given.is_grey and model.keeps_gray
    alpha = None if given.alpha is None else form.resampled(draw_alpha(pipe, given.alpha, config, form.size.passes))
    metadata = given.metadata.colours() if job.files.no_metadata else given.metadata
    write = partial(write_image, alpha=alpha, is_grey=is_grey, metadata=metadata, quality=job.files.quality)
    image = CompletedImage.read(pipe, given, job.inputs)
    is_lossy = job.output.suffix.lower() not in LOSSLESS or (alpha is not None and not alpha.all())
    is_changed = is_grey or is_lossy or image.is_changed
    as_read = partial(_as_read_again, write=write, suffix=job.output.suffix, image=image) if is_changed else None
    told = _told(pipe, job)
    passes, written = ModelPasses(told, config, show, pipe), ResultEncoding(form.bits == 16, as_read)
    made = passes.run(image.condition, form.size.passes, needs_all, written)
    pictures = image.finished(made.pictures) if image.is_changed else made.pictures
    for path, picture in zip([job.output, *job.others], pictures, strict=False):
        left_out = write(path, form.resampled(picture))
    drawn = made.drawn
    if image.is_changed and isinstance(drawn, Samples):
        drawn = replace(drawn, images=image.finished(np.asarray(drawn.images)))
    if "sheet" in job.extras and isinstance(drawn, Samples):
        shown = sheet(given.rgb if image.is_changed else made.condition, drawn)
        write_image(job.extras["sheet"], shown, metadata=given.metadata.colours())
    places: list[tuple[int, int]] = []
    if "suggested" in job.extras:
        places = suggest_hints(given.rgb, job.suggested_hints, image.inputs.get("hints"))
        marked = with_rings(pictures[0] if form.bits == 8 else np.asarray(pictures[0] >> 8, np.uint8), places)
        write_image(job.extras["suggested"], marked, metadata=given.metadata.colours())
    report, scored = report_of(job, made, given, config, form), None
    if (degradation := told.degradation(image.condition)) is not None:
        report = msgspec.structs.replace(report, degradation=degradation)
    if places:
        report = msgspec.structs.replace(report, suggested_hints=places)
    warnings = [*image.warnings, *contradiction(pipe, made, report), *left_out]
    if is_changed and form.is_own and report.outcome != "bicubic":
        with native_stderr():  # The messages were already reported for the input.
            own = read_image(job.output, pictures[0].size).rgb  # No limit: its pixels fit in memory already.
        own = pipe.target_of(own)
        scored = told.score(own, image.condition, show)
        report = about_file(report, scored)
        if report.consistency_db is not UNSET:
            report = msgspec.structs.replace(report, consistency_db=pipe.consistency.psnr(own, image.condition))
    if "likelihood" in job.extras and report.outcome == "bicubic":
        _remove(job.extras.values())
    elif "likelihood" in job.extras:
        maps = {}
        for name, picture, darkest, brightest in maps_of(drawn, of_file=scored):
            write_image(job.extras[name], picture)
            maps[name] = [darkest, brightest]
        report = msgspec.structs.replace(report, maps=maps)
    return report, warnings


def _told(pipe: Pipeline, job: ImageJob) -> Pipeline:
    """Return a pipeline that is told how the source was degraded, as far as the user or the file says it."""
    if not pipe.is_told_degradation:
        return pipe
    header = header_of_file(job.source)
    of_file = {"jpeg": jpeg_quality(header.quantization)} if header is not None and header.quantization else {}
    return pipe.assuming({**of_file, **job.assume})


def _reduce(job: ImageJob, given: ImageFile, form: OutputSpec) -> tuple[ImageReport, list[str]]:
    """Write a reduced copy of a source that is not smaller than the result. Return the same as `_draw`."""
    pixels = given.pixels(form.bits)
    if given.alpha is not None:
        pixels = matted(pixels, given.alpha)
    alpha = None if given.alpha is None else form.resampled(given.alpha)
    metadata = given.metadata.colours() if job.files.no_metadata else given.metadata
    left_out = write_image(job.output, form.resampled(pixels), alpha, given.is_grey, metadata, job.files.quality)
    _remove([*job.others, *job.extras.values()])
    report = ImageReport(
        input=as_text(job.source),
        output=as_text(job.output),
        input_bits=given.bits,
        sample=REJECTED,
        outcome="reduced",
        density_at="sample",
        output_bits=form.bits,
    )
    return report, left_out


def _remove(paths: Iterable[Path]) -> None:
    """Remove the files of an earlier result, if there are any."""
    for path in paths:
        path.unlink(missing_ok=True)


def _as_read_again(
    pixels: NDArray[Any], write: Callable[[Path, NDArray[Any]], object], suffix: str, image: CompletedImage
) -> Image:
    """Return the target that is read back from a result with this suffix, (h, w, 3) uint8."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"image{suffix}"
        result = image.finished(pixels) if image.is_changed else pixels
        write(path, result)
        return image.pipe.target_of(read_image(path, result.size).rgb)
