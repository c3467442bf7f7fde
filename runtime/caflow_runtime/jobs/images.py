"""One image file: read, drawn, written and reported."""

import math
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from caflow_runtime.errors import CaflowError
from caflow_runtime.health.metrics import Metrics
from caflow_runtime.image_formats import MAX_PIXELS
from caflow_runtime.jobs.folder import stamp_of
from caflow_runtime.judge.consistency import consistency
from caflow_runtime.path_text import as_text
from caflow_runtime.pictures.image_files import ImageFile, check_suffix, enlarge_alpha, read_image, write_image
from caflow_runtime.pictures.maps import pictures as maps_of
from caflow_runtime.pictures.sheet import sheet
from caflow_runtime.pipeline.choice import Untypical
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import Best, Likelihood, Samples
from caflow_runtime.rows.draw import Draw
from caflow_runtime.rows.runner import ShowWindows

KEEPS_COLOURS = ("super-resolution", "inpainting")
"""Tasks whose result of a grey image is grey."""
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
    """`accepted`, or of results that are not typical `best` or `bicubic`."""
    density_at: str
    log_likelihood: float | None
    """Nats; this and the next three are None of an enlarged input."""
    log_likelihood_per_level: list[float] | None
    bits_per_dim: float | None
    typicality: float | None
    """0 … 1; None also where the bundle is not calibrated for the temperature."""
    consistency_db: float | UnsetType = UNSET
    """Of a result that is degraded again, to the input."""
    typicality_as_written: float | UnsetType | None = UNSET
    """Of the file, where `typicality` is that of the sample as it was drawn."""
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
    stamp = stamp_of(job.source)
    try:
        report = _draw(pipe, job, draw, show, metrics, read_image(job.source, max_pixels))
        return Done(job, msgspec.structs.replace(report, input_stamp=stamp), stamp=stamp)
    except Untypical as error:
        for path in job.outputs:  # earlier ones
            path.unlink(missing_ok=True)
        if metrics:
            metrics.observe_error(error)
        return Done(job, wrong=f"{job.source}: {error}: dropped", is_dropped=True, stamp=stamp)
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
    with metrics.stage("sample") if metrics else nullcontext():
        drawn: Samples | Best = (pipe.draw_all if needs_all else pipe.draw_best)(given.rgb, draw, show)
    pictures = drawn.images[0] if needs_all else drawn.images[0][None]
    alpha = None if given.alpha is None else enlarge_alpha(given.alpha, *pictures.shape[1:3])
    is_grey = given.is_grey and pipe.manifest.model.task in KEEPS_COLOURS
    for path, picture in zip([job.output, *job.others], pictures, strict=False):
        write_image(path, picture, alpha, is_grey, given.profile)
    if "sheet" in job.extras:
        write_image(job.extras["sheet"], sheet(given.rgb, cast("Samples", drawn)), profile=given.profile)
    report = _report(job, drawn, given)
    if report.outcome != "bicubic" and (is_grey or job.output.suffix.lower() not in LOSSLESS):
        own = read_image(job.output, pictures[0].size).rgb  # however large: its pixels are in memory already
        written = _as_written(pipe, own, given.rgb, report.consistency_db is not UNSET)
        if draw.reject:  # the sample was judged, as it was drawn
            written["typicality_as_written"] = written.pop("typicality")
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


def _report(job: ImageJob, drawn: Samples | Best, given: ImageFile) -> ImageReport:
    """Of the best sample."""
    best = (0, 0) if drawn.per_level.ndim == 3 else (0,)
    return ImageReport(
        input=as_text(job.source),
        output=as_text(job.output),
        input_bits=given.bits,
        sample=int(drawn.sample[best]),
        outcome=getattr(drawn, "outcome", ["accepted"])[0],
        **_likelihood(drawn, best),
        consistency_db=UNSET if drawn.consistency is None else float(drawn.consistency[best]),
    )


def _likelihood(drawn: Likelihood, best: tuple[int, ...]) -> dict[str, Any]:
    """None where there is none: of an enlarged input."""
    has_one = math.isfinite(drawn.log_likelihood[best])
    typical = drawn.typicality
    return {
        "density_at": drawn.density_at,
        "log_likelihood": float(drawn.log_likelihood[best]) if has_one else None,
        "log_likelihood_per_level": drawn.per_level[best].tolist() if has_one else None,
        "bits_per_dim": float(drawn.bits_per_dim[best]) if has_one else None,
        "typicality": float(typical.value[best]) if typical and has_one else None,
    }


def _as_written(pipe: Pipeline, written: NDArray[Any], given: NDArray[Any], with_consistency: bool) -> dict[str, Any]:
    """What holds of the file where it is not what was drawn: grey, or of a format that loses something."""
    scored = pipe.score(written, given)
    known = {"consistency_db": consistency(pipe.manifest.model, written, given)} if with_consistency else {}
    return _likelihood(scored, (0,)) | known
