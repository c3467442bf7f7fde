"""One image file: read, drawn, written and reported."""

import math
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import msgspec
from msgspec import UNSET, UnsetType

from caflow_runtime.errors import CaflowError
from caflow_runtime.health.metrics import Metrics
from caflow_runtime.image import Image
from caflow_runtime.image_formats import MAX_PIXELS
from caflow_runtime.jobs.folder import stamp_of
from caflow_runtime.jobs.masks import Masked, read_masked
from caflow_runtime.jobs.photographs import KEEPS_COLOURS
from caflow_runtime.judge.consistency import consistency
from caflow_runtime.judge.typicality import Typicality
from caflow_runtime.path_text import as_text
from caflow_runtime.pictures.image_files import ImageFile, check_suffix, enlarge_alpha, read_image, write_image
from caflow_runtime.pictures.maps import pictures as maps_of
from caflow_runtime.pictures.sheet import sheet
from caflow_runtime.pipeline.choice import Untypical
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import Best, Likelihood, Samples
from caflow_runtime.rows.draw import Draw, Judge
from caflow_runtime.rows.runner import ShowWindows

LOSSLESS = {".bmp", ".png", ".tif", ".tiff"}


@dataclass(frozen=True)
class ImageJob:
    """One image file and what is made of it."""

    source: Path
    output: Path
    """The best sample."""
    others: tuple[Path, ...]
    """The other samples, in order of rank."""
    extras: dict[str, Path]
    """Further pictures by what they show."""
    mask: Path | None = None
    """An image as large as the source, whose white pixels are to be filled."""

    @property
    def outputs(self) -> list[Path]:
        """All that may be written."""
        return [self.output, *self.others, *self.extras.values()]

    def written(self, outcome: str) -> list[Path]:
        """All that is written of a result: of an enlarged input there are no maps."""
        return [self.output] if outcome == "bicubic" else self.outputs


class ImageReport(msgspec.Struct, frozen=True):
    """What is known of a result: what `caflow image --json` prints. A field that does not apply is not there."""

    input: str
    output: str
    input_bits: int
    """Per channel of the input file."""
    sample: int
    outcome: str
    """`unjudged` where nothing was asked of it or it cannot be judged, `accepted`, or of what is not typical `best` or
    `bicubic`."""
    density_at: str
    log_likelihood: float | None
    """Nats; this and the next three are None of an enlarged input."""
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


def do(
    pipe: Pipeline,
    job: ImageJob,
    draw: Draw,
    show: ShowWindows | None = None,
    metrics: Metrics | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Done:
    """Draw, write and report one image. What cannot be done is no exception, as others are to be done after it.

    Arguments:
        draw: of the best sample, or of all samples where the job wants them.
        show: as in `Pipeline.best_of`.
        max_pixels: of the image file, as in `read_image`.
    """
    stamp, mask_stamp = stamp_of(job.source), None if job.mask is None else stamp_of(job.mask)
    try:
        report = _draw(pipe, job, draw, show, metrics, read_image(job.source, max_pixels))
        return Done(job, msgspec.structs.replace(report, input_stamp=stamp), stamp=stamp, mask_stamp=mask_stamp)
    except Untypical as error:
        for path in job.outputs:  # earlier ones
            path.unlink(missing_ok=True)
        if metrics:
            metrics.observe_error(error)
        return Done(job, wrong=f"{job.source}: {error}: dropped", is_dropped=True, stamp=stamp, mask_stamp=mask_stamp)
    except (CaflowError, OSError, MemoryError) as error:
        if metrics:
            metrics.observe_error(error)
        text = str(error) or type(error).__name__
        return Done(job, wrong=text if text.startswith(str(job.source)) else f"{job.source}: {text}")


def _draw(
    pipe: Pipeline, job: ImageJob, draw: Draw, show: ShowWindows | None, metrics: Metrics | None, given: ImageFile
) -> ImageReport:
    check_suffix(job.output, given.alpha is not None)
    needs_all = bool(job.others or job.extras) and draw.reject is None
    is_grey = given.is_grey and pipe.manifest.model.task in KEEPS_COLOURS
    is_changed = is_grey or job.mask is not None or job.output.suffix.lower() not in LOSSLESS
    masked = None if job.mask is None else read_masked(job.mask, given.rgb)
    given = given if masked is None else replace(given, rgb=masked.condition)
    as_written = partial(_as_read_again, job.output.suffix, is_grey, masked) if is_changed else None
    drawn: Samples | Best
    with metrics.stage("sample") if metrics else nullcontext():
        drawn = pipe.draw_all(given.rgb, draw, show) if needs_all else pipe.draw_best(given.rgb, draw, show, as_written)
    pictures = drawn.images[0] if needs_all else drawn.images[0][None]
    pictures = pictures if masked is None else masked.filled_from(pictures)
    alpha = None if given.alpha is None else enlarge_alpha(given.alpha, *pictures.shape[1:3])
    for path, picture in zip([job.output, *job.others], pictures, strict=False):
        write_image(path, picture, alpha, is_grey, given.profile)
    if "sheet" in job.extras:
        write_image(job.extras["sheet"], sheet(given.rgb, cast("Samples", drawn)), profile=given.profile)
    report = _report(job, drawn, given, draw)
    if report.outcome != "bicubic" and is_changed:
        own = read_image(job.output, pictures[0].size).rgb  # however large: its pixels are in memory already
        written = _of_file(pipe, own, given.rgb, report.consistency_db is not UNSET)
        report = msgspec.structs.replace(report, **written)
    if "likelihood" in job.extras and report.outcome == "bicubic":
        for path in job.extras.values():
            path.unlink(missing_ok=True)  # earlier ones
    elif "likelihood" in job.extras:
        maps = {}
        for name, picture, darkest, brightest in maps_of(drawn):
            write_image(job.extras[name], picture)
            maps[name] = [darkest, brightest]
        report = msgspec.structs.replace(report, maps=maps)
    if metrics and needs_all:
        metrics.observe_samples(cast("Samples", drawn))
    elif metrics:
        metrics.observe_best(cast("Best", drawn), draw)
    return report


def _as_read_again(suffix: str, is_grey: bool, masked: Masked | None, image: Image) -> Image:
    """What a file with that suffix holds of an image."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"image{suffix}"
        write_image(path, image if masked is None else masked.filled_from(image), is_grey=is_grey)
        return read_image(path, image.size).rgb


def _report(job: ImageJob, drawn: Samples | Best, given: ImageFile, draw: Draw) -> ImageReport:
    """Of the best sample."""
    best = (0, 0) if drawn.per_level.ndim == 3 else (0,)
    return ImageReport(
        input=as_text(job.source),
        output=as_text(job.output),
        input_bits=given.bits,
        sample=int(drawn.sample[best]),
        outcome=getattr(drawn, "outcome", ["unjudged"])[0],
        **_likelihood(drawn, best),
        sample_typicality=_typicality(drawn.sample_typicality, best),
        image_typicality=_typicality(drawn.image_typicality, best),
        judge=UNSET if draw.judges is None else draw.judges,
        consistency_db=UNSET if drawn.consistency is None else float(drawn.consistency[best]),
    )


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
