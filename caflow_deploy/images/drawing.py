"""Drawing of one image: from the image, as it was read, to its result."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_deploy.images.alpha import draw_alpha
from caflow_deploy.images.image_files import read_image, write_image
from caflow_deploy.images.image_result import UNUSUAL, ImageResult
from caflow_deploy.images.input_files import CompletedImage
from caflow_deploy.images.matte import matted
from caflow_deploy.images.model_choice import jpeg_quality
from caflow_deploy.images.model_passes import ModelOutput, ModelPasses, OutputSpec
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.batching.runner import ShowWindows
from caflow_runtime.file_io.paths import as_text
from caflow_runtime.image_arrays import Image
from caflow_runtime.ood.typicality import Typicality
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import Outcome, Samples
from caflow_runtime.pipeline.sampling import ResultEncoding

LOSSLESS = {".bmp", ".png", ".tif", ".tiff"}
CONTRADICTING_DB = 20.0
"""Consistency in dB below which a sample contradicts its input. With x4-photo, noise of σ = 50 left 22 dB or more, and
dithering to black and white 18 dB or less."""


@dataclass(frozen=True)
class FileFormat:
    """File format in which a result is judged."""

    suffix: str
    """Suffix of the file's name, such as ".jpg"."""
    quality: int | None = None
    """Quality of JPEG and WebP, as in `write_image`."""


@dataclass(frozen=True)
class ImageRequest:
    """What is wanted of one image."""

    config: DrawOptions
    form: OutputSpec
    keeps_all: bool = False
    """Whether to keep all samples, not only the best one."""
    assume: Mapping[str, float] = field(default_factory=dict)
    """What is known of how the image was degraded, as in `load`; only for models that are told of it."""
    judged: FileFormat | None = None
    """File format in which the result is judged, if `config.judge` is "image"; None otherwise."""


def draw_image(image: CompletedImage, wanted: ImageRequest, show: ShowWindows | None = None) -> ImageResult:
    """Draw the samples of an image and choose the best one.

    Arguments:
        show: called after each run of the model, with the number of finished windows and their total in the pass.

    Raises:
        NotFinite: if no sample is finite.
        Untypical: if all samples are rejected, and `otherwise` is "drop".
    """
    pipe, given, config, form = image.pipe, image.given, wanted.config, wanted.form
    if not form.size.passes:
        return _reduced(image, form)
    alpha = None if given.alpha is None else form.resampled(draw_alpha(pipe, given.alpha, config, form.size.passes))
    is_grey = given.is_grey and pipe.manifest.model.keeps_gray
    told = _told(image, wanted.assume)

    def as_read(pixels: NDArray[Any]) -> Image:
        result = image.finished(pixels) if image.is_changed else pixels
        return pipe.target_of(_read_again(result, alpha, is_grey, wanted.judged or FileFormat(".png")))

    encoding = ResultEncoding(form.bits == 16, as_read if wanted.judged else None)
    made = ModelPasses(told, config, show, pipe).run(image.condition, form.size.passes, wanted.keeps_all, encoding)
    drawn, pictures, typicality = made.drawn, made.pictures, made.drawn.image_typicality
    outcome: Outcome = "unjudged" if isinstance(drawn, Samples) else drawn.outcome[0]
    if isinstance(drawn, Samples) and wanted.judged and form.is_own:
        typicality = told.score(as_read(pictures[0]), made.condition, show).image_typicality
    elif isinstance(drawn, Samples) and typicality is not None:
        typicality = typicality.of(np.s_[:, 0])
    if given.is_damaged:  # what is grey or shifted may well be usual
        drawn, typicality = replace(drawn, sample_typicality=None), None
        outcome = "unjudged" if outcome == "accepted" else outcome
    if image.is_changed:
        pictures = image.finished(pictures)
        if isinstance(drawn, Samples):
            drawn = replace(drawn, images=image.finished(np.asarray(drawn.images)))
    return ImageResult(
        model=as_text(pipe.folder.stem),
        given=given,
        form=form,
        outcome=outcome,
        pictures=pictures,
        alpha=alpha,
        is_grey=is_grey,
        drawn=drawn,
        shown=given.rgb if image.is_changed else made.condition,
        image_typicality=typicality if form.is_own else None,
        degradation=told.degradation(image.condition),
        filled=image.filled,
        warnings=(*given.warnings, *image.warnings, *_contradiction(pipe, made)),
    )


def _reduced(image: CompletedImage, form: OutputSpec) -> ImageResult:
    """Return a reduced copy of an image that is not smaller than the result."""
    given, pixels = image.given, image.given.pixels(form.bits)
    alpha = None if given.alpha is None else form.resampled(given.alpha)
    pixels = pixels if given.alpha is None else matted(pixels, given.alpha)
    return ImageResult(
        model=as_text(image.pipe.folder.stem),
        given=given,
        form=form,
        outcome="reduced",
        pictures=pixels[None],
        alpha=alpha,
        is_grey=given.is_grey,
        warnings=given.warnings,
    )


def _told(image: CompletedImage, assume: Mapping[str, float]) -> Pipeline:
    """Return a pipeline that is told how the image was degraded, as far as the user or the file says it."""
    if not image.pipe.is_told_degradation:
        return image.pipe
    table = image.given.quantization
    return image.pipe.assuming({**({"jpeg": jpeg_quality(table)} if table else {}), **assume})


def _read_again(pixels: NDArray[Any], alpha: NDArray[np.uint8] | None, is_grey: bool, file: FileFormat) -> Image:
    """Return the pixels that are read from a file of a result: (H, W, 3) uint8."""
    if file.suffix.lower() in LOSSLESS and pixels.dtype == np.uint8 and not is_grey and (alpha is None or alpha.all()):
        return pixels
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"image{file.suffix}"
        write_image(path, pixels, alpha, is_grey, quality=file.quality)
        return read_image(path, pixels.size).rgb  # no limit: its pixels fit in memory already


def _contradiction(pipe: Pipeline, made: ModelOutput) -> list[str]:
    """Return a warning if the chosen sample is untypical and contradicts its condition. For models that enlarge.

    Each alone may be right: a sample of a flat image is untypical, and one without the noise of its condition
    contradicts it. Models that are told of degradations remove them, so their samples contradict such conditions.
    """
    manifest, typicality = pipe.manifest, _of_best(made)
    is_comparable = manifest.model.scale > 1 and manifest.has_consistency and not pipe.is_told_degradation
    if not is_comparable or typicality is None or not typicality.value < UNUSUAL:
        return []
    picture = made.pictures[0] if made.pictures.dtype == np.uint8 else np.asarray(made.pictures[0] >> 8, np.uint8)
    agreement = pipe.consistency.psnr(picture, made.condition)
    if agreement >= CONTRADICTING_DB:
        return []
    return [
        "the sample is untypical and contradicts the input: reduced again, it differs (consistency "
        f"{agreement:.1f} dB). The model does not know such inputs: use one that was trained for them, such as x4-real "
        "for dithered and noisy photographs"
    ]


def _of_best(made: ModelOutput) -> Typicality | None:
    """Return the typicality of the best sample; None if the bundle is not calibrated for its temperature."""
    known = made.drawn.sample_typicality
    return None if known is None else known.of((0, 0) if isinstance(made.drawn, Samples) else 0)
