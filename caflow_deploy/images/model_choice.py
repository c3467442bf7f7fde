"""Choice of the built-in ×4 model for an image: x4-photo if no damage is found, x4-real for damaged ones.

The choice depends on the bytes of the file alone: on the quality of a JPEG, and on the pixels of every format.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caflow_deploy.images.file_search import MAX_IMAGE_PIXELS
from caflow_deploy.images.image_files import ImageFile, read_image
from caflow_deploy.images.image_headers import header_of_file
from caflow_runtime.bundle.builtin import DEFAULT, DEFAULT_FOR_DEGRADED
from caflow_runtime.checks import checked_path
from caflow_runtime.image_arrays import Image

MODELS = (DEFAULT, DEFAULT_FOR_DEGRADED)
"""Names of the models that `choose_model` chooses from. Both enlarge four times, with the same number of levels."""
MIN_QUALITY, MIN_GREY_QUALITY, MAX_NOISE, MAX_BLUR = 95, 75, 1.5, 0.7
"""Least quality of JPEG, the same for grey images, largest noise in grey levels, and largest blur in pixels of the
result, of images that x4-photo enlarges. Grey images have no damage in chroma, and x4-real takes clean ones for JPEG of
quality 85 to 93 (20 photographs). Pixels are judged by the estimates of x4-real, so a former JPEG is found in every
format. `benchmarks/quality.py choice` has the LPIPS of both models for each kind of damage."""
SMALLEST = 32
"""Smallest side of an image whose damage is estimated, in pixels."""
LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
"""Quantization table of luminance in ITU-T T.81 (the standard of JPEG), table K.1, row by row."""
Estimate = Callable[[Image], Mapping[str, float] | None]
"""Estimates how an image, (H, W, 3) uint8 RGB, was degraded, in the words of `assume`."""


@dataclass(frozen=True)
class ModelChoice:
    """Built-in model for an image, and why it was chosen."""

    model: str
    """Name of the model, one of `MODELS`."""
    reason: str
    """Clause about the image that gives the reason, such as "it is a JPEG of quality 72"."""

    def __str__(self) -> str:
        return f"{self.model}, because {self.reason}"


def choose_model(path: str | Path, estimate: Estimate, max_pixels: int = MAX_IMAGE_PIXELS) -> ModelChoice:
    """Return the built-in ×4 model that is best for an image file, and the reason.

    x4-real is chosen for damaged images. Of JPEG files with a quality below `MIN_GREY_QUALITY`, the pixels are not
    decoded.

    Arguments:
        estimate: `Pipeline.degradation` of x4-real.
        max_pixels: largest number of pixels, as in `read_image`, where pixels are decoded.

    Raises:
        InputError, UnreadableImage: as from `read_image`, where pixels are decoded.
    """
    path = checked_path("path", path)
    header = header_of_file(path)
    of_header = None if header is None else _of_quality(header.quantization, MIN_GREY_QUALITY)
    return of_header or choose_model_of(read_image(path, max_pixels), estimate)


def choose_model_of(image: ImageFile, estimate: Estimate) -> ModelChoice:
    """Return the built-in ×4 model that is best for an image that was read, and the reason, as `choose_model` does."""
    least = MIN_GREY_QUALITY if (image.rgb == image.rgb[..., :1]).all() else MIN_QUALITY
    if (choice := _of_quality(image.quantization, least)) is not None:
        return choice
    if min(image.rgb.shape[:2]) < SMALLEST:
        return ModelChoice(DEFAULT, "it is too small to look for damage")
    found = estimate(image.rgb)
    assert found is not None
    damage = [
        (found["jpeg"] < least, "it shows traces of compression"),
        (found["noise"] > MAX_NOISE, f"it looks noisy, with noise of about {found['noise']:.1f} grey levels"),
        (found["blur"] > MAX_BLUR, "it looks blurred"),
    ]
    for is_there, reason in damage:
        if is_there:
            return ModelChoice(DEFAULT_FOR_DEGRADED, reason)
    return ModelChoice(DEFAULT, "no damage was found")


def _of_quality(table: Sequence[int] | None, least: int) -> ModelChoice | None:
    """Return the choice for a JPEG file of a quality below `least`; None for all others."""
    if not table or (quality := jpeg_quality(table)) >= least:
        return None
    return ModelChoice(DEFAULT_FOR_DEGRADED, f"it is a JPEG of quality {quality}")


def jpeg_quality(table: Sequence[int]) -> int:
    """Return the quality, 1…100, of the IJG's tables that a quantization table of luminance is most similar to.

    The Independent JPEG Group's library scales table K.1 of the standard by a factor that depends on the quality
    (`jpeg_quality_scaling` and `jpeg_add_quant_table` in `jcparam.c`), and most programs do the same. For tables of
    other programs, such as Photoshop, the similarity is the mean absolute difference of the logarithms.

    Arguments:
        table: 64 integers, row by row.
    """
    qualities = np.arange(1, 101)
    factors = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    tables = np.clip((np.outer(factors, LUMINANCE) + 50) // 100, 1, 255)
    distances = np.abs(np.log(tables / np.maximum(table, 1))).mean(1)
    return int(qualities[distances.argmin()])
