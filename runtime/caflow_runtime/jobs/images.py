"""One image file: read, drawn, written and reported."""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import msgspec
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from caflow_runtime.errors import CaflowError
from caflow_runtime.health.metrics import Metrics
from caflow_runtime.image import Image
from caflow_runtime.image_formats import MAX_PIXELS, size_of_file
from caflow_runtime.jobs.folder import stamp_of
from caflow_runtime.jobs.image_job import LOSSLESS, ImageJob
from caflow_runtime.jobs.image_need import ImageNeed, Source, check_memory
from caflow_runtime.jobs.masks import Masked, read_masked
from caflow_runtime.jobs.native_stderr import native_stderr
from caflow_runtime.jobs.passes import Form, Made, Passes
from caflow_runtime.jobs.photographs import KEEPS_COLOURS
from caflow_runtime.judge.consistency import consistency
from caflow_runtime.judge.typicality import Typicality
from caflow_runtime.path_text import as_text
from caflow_runtime.pictures.alpha import draw_alpha
from caflow_runtime.pictures.image_files import ImageFile, check_suffix, read_image, write_image
from caflow_runtime.pictures.maps import pictures as maps_of
from caflow_runtime.pictures.matte import matted
from caflow_runtime.pictures.sheet import sheet
from caflow_runtime.pipeline.choice import Untypical
from caflow_runtime.pipeline.drawing import Written
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import REJECTED, Best, Likelihood, Samples
from caflow_runtime.rows.draw import Draw, Judge
from caflow_runtime.rows.runner import ShowWindows


class ModelImage(msgspec.Struct, frozen=True):
    """The image that a model made, where the file holds another one."""

    width: int
    height: int
    bits: int
    passes: int
    """How often the model enlarged: the likelihood is that of the last pass, given the image of the one before."""


class ImageReport(msgspec.Struct, frozen=True):
    """What is known of a result: what `caflow image --json` prints. A field that does not apply is not there."""

    input: str
    output: str
    input_bits: int
    """Per channel of the input file."""
    sample: int
    outcome: str
    """`unjudged` where nothing was asked of it or it cannot be judged, `accepted`, or of what is not typical `best` or
    `bicubic`; `reduced` where the source is not smaller than the result, and no model was needed."""
    density_at: str
    log_likelihood: float | None
    """Nats; this and the next three are None of an input that was resized by a filter."""
    log_likelihood_per_level: list[float] | None
    bits_per_dim: float | None
    sample_typicality: float | None
    """0 … 1 of the sample as it was drawn, among samples of its temperature; None where that is not known."""
    image_typicality: float | None
    """0 … 1 of the image as it is written, among true images; None where it was not scored."""
    judge: Judge | UnsetType = UNSET
    """Which of both the outcome is about, where anything was asked."""
    consistency_db: float | UnsetType = UNSET
    """Of a result that is degraded again, to the input."""
    maps: dict[str, list[float]] | UnsetType = UNSET
    """Values that are darkest and brightest in each map."""
    input_stamp: str | None = None
    """`stamp_of` the input, taken before it was read."""
    output_bits: int = 8
    """Per channel of the output file."""
    likelihood_of: ModelImage | UnsetType = UNSET
    """What the likelihood, the sample's typicality, `consistency_db` and maps are about, where it is not the file."""
    unjudged_because: str | UnsetType = UNSET
    """Why the file has no `image_typicality`, where that is due to its size."""
    warnings: list[str] | UnsetType = UNSET
    """What is wrong with the input, or could not be kept of its metadata, if anything."""

    def fields(self) -> dict[str, Any]:
        """Return what JSON has of it."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


@dataclass(frozen=True)
class Done:
    """What came of a job."""

    job: ImageJob
    report: ImageReport | None = None
    """Of the result."""
    wrong: str | None = None
    """Why there is no result, for people."""
    is_dropped: bool = False
    """There is none because all samples are untypical."""
    stamp: str | None = None
    """`stamp_of` the source, taken before it was read."""
    mask_stamp: str | None = None
    """That of the mask."""


@dataclass(frozen=True)
class Watch:
    """Is told how an image comes along."""

    begins: Callable[[ImageJob, ImageNeed], None] | None = None
    """Called before anything is computed."""
    windows: ShowWindows | None = None
    """As in `Pipeline.best_of`, for each pass of the model."""


def do(
    pipe: Pipeline,
    job: ImageJob,
    draw: Draw,
    watch: Watch = Watch(),
    metrics: Metrics | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Done:
    """Draw, write and report one image. What cannot be done is no exception, as others are to be done after it.

    Arguments:
        draw: of the best sample, or of all samples where the job wants them.
        watch: is told before work begins, and after each window.
        max_pixels: of the image file, as in `read_image`.
    """
    stamp, mask_stamp = stamp_of(job.source), None if job.mask is None else stamp_of(job.mask)
    said: list[str] = []
    try:
        with native_stderr() as said:
            given, need = look(pipe, job, draw, max_pixels)
        if watch.begins is not None:
            watch.begins(job, need)
        report, left_out = _draw(pipe, job, draw, watch.windows, metrics, given)
        warnings = [*dict.fromkeys(said), *given.warnings, *left_out] or UNSET
        report = msgspec.structs.replace(report, input_stamp=stamp, warnings=warnings)
        return Done(job, report, stamp=stamp, mask_stamp=mask_stamp)
    except Untypical as error:
        _remove(job.outputs)
        if metrics:
            metrics.observe_error(error)
        return Done(job, wrong=f"{job.source}: {error}: dropped", is_dropped=True, stamp=stamp, mask_stamp=mask_stamp)
    except (CaflowError, OSError, MemoryError) as error:
        if metrics:
            metrics.observe_error(error)
        return Done(job, wrong=refusal(job, error, said))


def look(pipe: Pipeline, job: ImageJob, draw: Draw, max_pixels: int = MAX_PIXELS) -> tuple[ImageFile, ImageNeed]:
    """Read the image of a job, and say what drawing it will take. What cannot fit is refused, if possible unread.

    Raises:
        InputError, UnreadableImage
        TooLittleMemory: if there is less memory than that.
    """
    size = size_of_file(job.source)
    if size is not None and size.width * size.height <= max_pixels:  # of 8 bits, say: more would need more
        check_memory(job.need(pipe, draw, Source(size.height, size.width)))
    given = read_image(job.source, max_pixels)
    height, width = given.rgb.shape[:2]
    is_grey = given.is_grey and pipe.manifest.model.task in KEEPS_COLOURS
    need = job.need(pipe, draw, Source(height, width, given.bits, given.alpha is not None, is_grey))
    check_memory(need)
    return given, need


def refusal(job: ImageJob, error: Exception, said: Sequence[str] = ()) -> str:
    """Why there is no result, for people; `said`: what libraries have said on the way."""
    text = "; ".join([str(error) or type(error).__name__, *dict.fromkeys(said)])
    return text if text.startswith(str(job.source)) else f"{job.source}: {text}"


def _draw(
    pipe: Pipeline, job: ImageJob, draw: Draw, show: ShowWindows | None, metrics: Metrics | None, given: ImageFile
) -> tuple[ImageReport, list[str]]:
    """The report, and what of the metadata was left out."""
    model = pipe.manifest.model
    height, width = given.rgb.shape[:2]
    form = job.form(height, width, given.bits, model.scale)
    check_suffix(job.output, given.alpha is not None, form.bits)
    if not form.size.passes:
        return _reduce(job, given, form)
    needs_all = job.wants_all(draw)
    is_grey = given.is_grey and model.task in KEEPS_COLOURS
    alpha = None if given.alpha is None else form.reduced(draw_alpha(pipe, given.alpha, draw, form.size.passes))
    metadata = given.metadata.colours() if job.files.no_metadata else given.metadata
    write = partial(write_image, alpha=alpha, is_grey=is_grey, metadata=metadata, quality=job.files.quality)
    masked = None if job.mask is None else read_masked(job.mask, given)
    given = given if masked is None else replace(given, rgb=masked.condition)
    is_lossy = job.output.suffix.lower() not in LOSSLESS or (alpha is not None and not alpha.all())
    is_changed = is_grey or is_lossy or masked is not None
    as_read = partial(_as_read_again, write=write, suffix=job.output.suffix, masked=masked) if is_changed else None
    with metrics.stage("sample") if metrics else nullcontext():
        passes, written = Passes(pipe, draw, show), Written(form.bits == 16, as_read)
        made = passes.run(given.rgb, form.size.passes, needs_all, written)
    pictures = made.pictures if masked is None else masked.filled_from(made.pictures)
    for path, picture in zip([job.output, *job.others], pictures, strict=False):
        left_out = write(path, form.reduced(picture))
    if "sheet" in job.extras and isinstance(made.drawn, Samples):
        shown = sheet(made.condition, made.drawn)
        write_image(job.extras["sheet"], shown, metadata=given.metadata.colours())
    report = _report(job, made, given, draw, form)
    if is_changed and form.is_own and report.outcome != "bicubic":
        with native_stderr():  # has been said of the input
            own = read_image(job.output, made.pictures[0].size).rgb  # however large: its pixels are in memory already
        of_file = _of_file(pipe, own, given.rgb, report.consistency_db is not UNSET)
        report = msgspec.structs.replace(report, **of_file)
    if "likelihood" in job.extras and report.outcome == "bicubic":
        _remove(job.extras.values())
    elif "likelihood" in job.extras:
        maps = {}
        for name, picture, darkest, brightest in maps_of(made.drawn):
            write_image(job.extras[name], picture)
            maps[name] = [darkest, brightest]
        report = msgspec.structs.replace(report, maps=maps)
    if metrics and isinstance(made.drawn, Samples):
        metrics.observe_samples(made.drawn)
    elif metrics:
        metrics.observe_best(cast("Best", made.drawn), draw)
    return report, left_out


def _reduce(job: ImageJob, given: ImageFile, form: Form) -> tuple[ImageReport, list[str]]:
    """Of a source that is not smaller than its result, the source itself, reduced."""
    pixels = given.pixels(form.bits)
    if given.alpha is not None:
        pixels = matted(pixels, given.alpha)
    alpha = None if given.alpha is None else form.reduced(given.alpha)
    metadata = given.metadata.colours() if job.files.no_metadata else given.metadata
    left_out = write_image(job.output, form.reduced(pixels), alpha, given.is_grey, metadata, job.files.quality)
    _remove([*job.others, *job.extras.values()])
    report = ImageReport(
        input=as_text(job.source),
        output=as_text(job.output),
        input_bits=given.bits,
        sample=REJECTED,
        outcome="reduced",
        density_at="sample",
        log_likelihood=None,
        log_likelihood_per_level=None,
        bits_per_dim=None,
        sample_typicality=None,
        image_typicality=None,
        output_bits=form.bits,
    )
    return report, left_out


def _remove(paths: Iterable[Path]) -> None:
    """Pictures of an earlier result."""
    for path in paths:
        path.unlink(missing_ok=True)


def _as_read_again(
    pixels: NDArray[Any], write: Callable[[Path, NDArray[Any]], object], suffix: str, masked: Masked | None
) -> Image:
    """What a file with that suffix holds of an image."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"image{suffix}"
        write(path, pixels if masked is None else masked.filled_from(pixels))
        return read_image(path, pixels.size).rgb


def _report(job: ImageJob, made: Made, given: ImageFile, draw: Draw, form: Form) -> ImageReport:
    """Of the best sample."""
    drawn = made.drawn
    best = (0, 0) if isinstance(drawn, Samples) else (0,)
    report = ImageReport(
        input=as_text(job.source),
        output=as_text(job.output),
        input_bits=given.bits,
        sample=int(drawn.sample[best]),
        outcome=getattr(drawn, "outcome", ["unjudged"])[0],
        **_likelihood(drawn, best),
        sample_typicality=_typicality(drawn.sample_typicality, best),
        image_typicality=_typicality(drawn.image_typicality, best) if form.is_own else None,
        judge=UNSET if draw.judges is None else draw.judges,
        consistency_db=UNSET if drawn.consistency is None else float(drawn.consistency[best]),
        output_bits=form.bits,
    )
    if report.outcome == "bicubic" or (form.is_own and form.bits == 8):
        return report
    height, width = made.pictures.shape[1:3]
    of = ModelImage(width, height, 8, form.size.passes)
    return msgspec.structs.replace(report, likelihood_of=of, unjudged_because=_why_unjudged(given.rgb, form))


def _why_unjudged(given: Image, form: Form) -> str | UnsetType:
    if form.is_own:
        return UNSET
    size, (height, width) = form.size, given.shape[:2]
    return f"{size.width}×{size.height} is no size that the model makes of {width}×{height}"


def _likelihood(drawn: Likelihood, best: tuple[int, ...]) -> dict[str, Any]:
    """None where there is none: of an enlarged input."""
    has_one = math.isfinite(drawn.log_likelihood[best])
    return {
        "density_at": drawn.density_at,
        "log_likelihood": float(drawn.log_likelihood[best]) if has_one else None,
        "log_likelihood_per_level": drawn.per_level[best].tolist() if has_one else None,
        "bits_per_dim": float(drawn.bits_per_dim[best]) if has_one else None,
    }


def _typicality(known: Typicality | None, best: tuple[int, ...]) -> float | None:
    """None of what cannot be judged."""
    return float(known.value[best]) if known and known.is_judged[best] else None


def _of_file(pipe: Pipeline, written: Image, given: Image, with_consistency: bool) -> dict[str, Any]:
    """What holds of the file where it is not what was drawn: grey, masked, or of a format that loses something."""
    scored = pipe.score(written, given)
    known: dict[str, Any] = {"image_typicality": _typicality(scored.image_typicality, (0,))}
    if with_consistency:
        known["consistency_db"] = consistency(pipe.manifest.model, written, given)
    return _likelihood(scored, (0,)) | known
