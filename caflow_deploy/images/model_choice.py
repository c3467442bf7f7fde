"""Choice of the built-in ×4 model for an image file: x4-photo for clean images, x4-real for degraded ones.

The choice depends on the bytes of the file alone. A JPEG of low quality is degraded, and so is a noisy image.

The quality is that of the file's quantization table, so only JPEG files have one. Other files, such as lossy WebP, HEIC
or a JPEG inside a TIFF, are judged by their noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from caflow_deploy.images.file_search import MAX_IMAGE_PIXELS
from caflow_deploy.images.image_files import ImageFile, read_image
from caflow_deploy.images.image_headers import header_of_file
from caflow_runtime.bundle.builtin import DEFAULT, DEFAULT_FOR_DEGRADED
from caflow_runtime.checks import checked_path
from caflow_runtime.image_arrays import Image

MODELS = (DEFAULT, DEFAULT_FOR_DEGRADED)
"""Names of the models that `choose_model` chooses from. Both enlarge four times, with the same number of levels."""
MIN_QUALITY = 95
"""Least quality of a JPEG that x4-photo enlarges. The LPIPS of x4-real is higher by 0.010 without JPEG, equal within
0.003 at quality 95, and lower by 0.015 at 92 (`benchmarks/quality.py choice`, 32 photographs)."""
MAX_NOISE = 0.9
"""Largest result of `estimate_noise` with which x4-photo enlarges an image. The LPIPS of x4-real is lower by 0.047 for
noise of σ = 2 in each channel, and higher by 0.008 for σ = 1 and by 0.010 without noise. Of 306 photographs of full
size, 3.9 % exceed this limit as they are, 87 % with noise of σ = 2, and all with σ = 3."""
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
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of R, G and B in luma, by BT.601."""
BLOCK, MAX_BLOCKS = 8, 64
"""Side of the blocks whose noise is estimated, in coefficients, and their largest number along each side of an image.
"""
ORDER = 5
"""Order of the differences that are the coefficients. Higher ones contain less texture."""
DARKEST, BRIGHTEST = 16, 239
"""Range of the mean luma of blocks that are used: elsewhere, values are clipped and noise is smaller."""
PERCENTILE = 5
"""Percentile of the blocks' estimates that is the result. Texture adds least to the lowest ones."""
MAD_OF_NORMAL = 0.6745
"""Median of the absolute values of a normal distribution whose standard deviation is 1."""


@dataclass(frozen=True)
class ModelChoice:
    """Built-in model for an image, and why it was chosen."""

    model: str
    """Name of the model, one of `MODELS`."""
    reason: str
    """Clause about the image that gives the reason, such as "it is a JPEG of quality 72"."""

    def __str__(self) -> str:
        return f"{self.model}, because {self.reason}"


def choose_model(path: str | Path, max_pixels: int = MAX_IMAGE_PIXELS) -> ModelChoice:
    """Return the built-in ×4 model that is best for an image file, and the reason.

    x4-real is chosen for JPEG files with a quality below `MIN_QUALITY`, whose pixels are not decoded, and for images
    with more noise than `MAX_NOISE`.

    Arguments:
        max_pixels: largest number of pixels, as in `read_image`, where pixels are decoded.

    Raises:
        InputError, UnreadableImage: as from `read_image`, where pixels are decoded.
    """
    path = checked_path("path", path)
    header = header_of_file(path)
    of_header = None if header is None else _of_quality(header.quantization)
    return of_header or choose_model_of(read_image(path, max_pixels))


def choose_model_of(image: ImageFile) -> ModelChoice:
    """Return the built-in ×4 model that is best for an image that was read, and the reason, as `choose_model` does."""
    if (choice := _of_quality(image.quantization)) is not None:
        return choice
    noise = estimate_noise(image.rgb)
    if noise > MAX_NOISE:
        return ModelChoice(DEFAULT_FOR_DEGRADED, f"it looks noisy (noise of about {noise:.1f} grey levels)")
    return ModelChoice(DEFAULT, "it is clean")


def _of_quality(table: Sequence[int] | None) -> ModelChoice | None:
    """Return the choice for a JPEG file of low quality; None for all others."""
    if not table or (quality := jpeg_quality(table)) >= MIN_QUALITY:
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


def estimate_noise(image: Image) -> float:
    """Estimate the standard deviation of the noise in the luma of an image, in grey levels.

    It is the median absolute deviation of the finest diagonal coefficients of a wavelet, divided by 0.6745 (Donoho and
    Johnstone, "Ideal spatial adaptation by wavelet shrinkage", 1994). The filter is [1, −5, 10, −10, 5, −1], along both
    axes. Because texture has such coefficients, too, each block has its own estimate, and the result is a low
    percentile of them. It is therefore rather too small.

    Arguments:
        image: (H, W, 3) uint8 RGB. If it is smaller than a block, or all blocks are too dark, too bright or of one
            colour, the result is 0.
    """
    side = BLOCK + ORDER
    if min(image.shape[:2]) < side:
        return 0.0
    rows, columns = (max(BLOCK, -(-(length - side) // MAX_BLOCKS)) for length in image.shape[:2])
    windows = sliding_window_view(image, (side, side), (0, 1))[::rows, ::columns]
    luma = np.einsum("ijcyx,c->ijyx", windows, LUMA).reshape(-1, side, side)
    mean = luma.mean((1, 2))
    luma = luma[(mean >= DARKEST) & (mean <= BRIGHTEST) & (np.ptp(luma, (1, 2)) > 0)]
    if not len(luma):
        return 0.0
    gain = np.sum(np.square(np.diff([0] * ORDER + [1] + [0] * ORDER, ORDER)))
    coefficients = np.diff(np.diff(luma, ORDER, 1), ORDER, 2) / gain
    noise = np.median(np.abs(coefficients), (1, 2)) / MAD_OF_NORMAL
    return float(np.percentile(noise, PERCENTILE))
