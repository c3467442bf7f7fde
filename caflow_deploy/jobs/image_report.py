"""Report on one image: the JSON that users read, and the functions that fill it."""

import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from caflow_deploy.images.image_result import ImageResult
from caflow_deploy.jobs.image_job import ImageJob
from caflow_runtime.batching.draw_options import DrawOptions, Judge
from caflow_runtime.file_io.paths import as_text
from caflow_runtime.ood.typicality import Typicality
from caflow_runtime.ood.verdict import Probability
from caflow_runtime.pipeline.results import REJECTED, Likelihood, Samples


class ModelImage(msgspec.Struct, frozen=True):
    """Image that the model made, where the output file contains a different one."""

    width: int
    """Width of the model's image, in pixels."""
    height: int
    """Height of the model's image, in pixels."""
    bits: int
    """Bits per channel of the model's image."""
    passes: int
    """Number of passes of the model. The likelihood is that of the last pass, given the image of the pass before."""


class ImageReport(msgspec.Struct, frozen=True):
    """Report on one result: the JSON object that `caflow image --json` prints and `results.jsonl` stores.

    Optional fields, such as `consistency_db`, are omitted where they do not apply.
    """

    input: str
    """Path of the input file; absolute in `results.jsonl`. Bytes that are not UTF-8 are escaped as by `as_text`."""
    output: str
    """Path of the output file, written like `input`."""
    input_bits: int
    """Bits per channel of the input file."""
    sample: Annotated[int, msgspec.Meta(ge=REJECTED)]
    """Number of the chosen sample, from 0; −1 if the output is the resized input (`outcome` is `bicubic` or
    `reduced`)."""
    n: Annotated[int, msgspec.Meta(ge=1)]
    """Number of samples that were asked for, without those in place of rejected ones."""
    output_width: int
    """Width of the output file, in pixels."""
    output_height: int
    """Height of the output file, in pixels."""
    outcome: Literal["unjudged", "accepted", "rejected", "bicubic", "reduced"]
    """Origin of the output file.

    * `unjudged`: a sample that was not judged, because this was not requested or the calibration has no similar images.
    * `accepted`: a sample whose typicality reached the threshold α.
    * `rejected`: the best sample, although all samples were rejected as untypical.
    * `bicubic`: the input, enlarged bicubically, because all samples were rejected.
    * `reduced`: the input, reduced without the model, because it is not smaller than the requested size.
    """
    density_at: str
    """Point at which the likelihood was computed: `sample`, the continuous values that were drawn; or `image`, integer
    pixel values. The two likelihoods differ by the effect of rounding. Without a likelihood, ignore this field."""
    log_likelihood: float | None = None
    """Log-likelihood of the sample given the input, in nats, as it was drawn. None if the output is the resized
    input."""
    log_likelihood_per_level: list[float] | None = None
    """Log-likelihood of each level in nats, coarsest first; the sum is `log_likelihood`."""
    bits_per_dim: float | None = None
    """Negative log-likelihood in bits per dimension. None if the output is the resized input."""
    sample_typicality: Probability | None = None
    """Typicality of the drawn sample among samples of the same temperature, 0…1. It is that of the sample even if the
    file differs from the sample, for example in a lossy format. None if the output is the resized input, if the sample
    was changed to match the input (`--consistent`), or if the calibration does not cover the temperature or images of
    this kind."""
    image_typicality: Probability | None = None
    """Typicality among true images, 0…1, of the image as it is read from its file. None unless `--judge image` asks for
    it, or if the calibration does not cover images of this kind."""
    judge: Judge | UnsetType = UNSET
    """Typicality that `outcome` is based on: `sample` or `image`. Omitted if no judgement was requested."""
    consistency_db: float | UnsetType = UNSET
    """Consistency: PSNR, in dB, between the input and the result after it is degraded as in training. Omitted if it was
    not requested."""
    maps: dict[str, list[float]] | UnsetType = UNSET
    """For each map, the values that are shown darkest and brightest: bits/dim, or grey levels for `uncertainty`."""
    input_stamp: str | None = None
    """Size and modification time of the input (`stamp_of`), taken before it was read. If the stamp has changed, the
    job makes the result again."""
    model: str | UnsetType = UNSET
    """Name of the model, that of its bundle's folder. Likelihoods of different models cannot be compared."""
    degradation: dict[str, float] | UnsetType = UNSET
    """What the model was told of how the input was degraded (`Pipeline.degradation`): what the user or the file says,
    otherwise what the model estimates. Omitted for models that are not told of it."""
    model_because: str | UnsetType = UNSET
    """Reason why the model was chosen, a clause about the input. Omitted if the model was named."""
    suggested_hints: list[tuple[int, int]] | UnsetType = UNSET
    """Places where further hints of colour would help most, the best first: column and row in pixels. Only with
    `--suggest-hints`."""
    filled: float | UnsetType = UNSET
    """Share of the image that the mask marked, 0…1. Omitted without a mask."""
    output_bits: int = 8
    """Bits per channel of the output file."""
    bytes: int | UnsetType = UNSET
    """Size of the output file, in bytes."""
    likelihood_of: ModelImage | UnsetType = UNSET
    """Image that the likelihood, `sample_typicality`, `consistency_db` and maps describe, if it differs from the output
    file in size or bit depth; else omitted."""
    warnings: list[str] | UnsetType = UNSET
    """Defects of the input file, a sample that contradicts the input, and metadata that could not be copied to the
    output file. Omitted if there are none."""

    def fields(self) -> dict[str, Any]:
        """Return the report as an object for JSON, without omitted fields."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def report_of(job: ImageJob, result: ImageResult, config: DrawOptions, **others: Any) -> ImageReport:
    """Return the report on a result: on the best sample, or on what takes its place.

    Arguments:
        others: further fields of the report.
    """
    drawn, form = result.drawn, result.form
    report = ImageReport(
        input=as_text(job.source),
        output=as_text(job.output),
        input_bits=result.given.bits,
        sample=REJECTED,
        n=config.number,
        output_width=form.size.width,
        output_height=form.size.height,
        outcome=result.outcome,
        density_at="sample",
        output_bits=form.bits,
        **others,
    )
    if drawn is None:
        return report
    best = (0, 0) if isinstance(drawn, Samples) else (0,)
    about = {
        "sample": int(drawn.sample[best]),
        **_likelihood(drawn, best),
        "sample_typicality": _typicality(drawn.sample_typicality, best),
        "image_typicality": _typicality(result.image_typicality, (0,)),
        "judge": config.judge if config.rejects else UNSET,
        "consistency_db": UNSET if drawn.consistency is None else float(drawn.consistency[best]),
        "degradation": UNSET if result.degradation is None else result.degradation,
        "filled": UNSET if result.filled is None else result.filled,
    }
    if report.outcome != "bicubic" and not (form.is_own and form.bits == 8):
        height, width = result.pictures.shape[1:3]
        about["likelihood_of"] = ModelImage(width, height, 8, form.size.passes)
    return msgspec.structs.replace(report, **about)


def _likelihood(drawn: Likelihood, best: tuple[int, ...]) -> dict[str, Any]:
    """Return the likelihood fields of the report. Their values are None for an enlarged input."""
    has_one = math.isfinite(drawn.log_likelihood[best])
    return {
        "density_at": drawn.density_at,
        "log_likelihood": float(drawn.log_likelihood[best]) if has_one else None,
        "log_likelihood_per_level": drawn.per_level[best].tolist() if has_one else None,
        "bits_per_dim": float(drawn.bits_per_dim[best]) if has_one else None,
    }


def _typicality(known: Typicality | None, best: tuple[int, ...]) -> float | None:
    """Return the typicality of the best sample; None if it is not known."""
    return float(known.value[best]) if known and known.is_judged[best] else None
