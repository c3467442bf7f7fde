"""Decoding of AVIF and HEIC files (ISO/IEC 23008-12): AVIF by Pillow, HEIC by the optional package pillow-heif.

The wheels of pillow-heif contain x265, which is licensed under the GPL.
"""

import re
from io import BytesIO
from itertools import islice
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps
from PIL.AvifImagePlugin import AvifImageFile
from PIL.Image import Image

from caflow_deploy.images.image_headers import ImageHeader
from caflow_deploy.images.tiff_tags import MAX_BYTES, size_of_values
from caflow_runtime.errors import InputError

BRANDS_START, MAX_BRAND_BYTES = 8, 256
COLOUR_CODES = re.compile(rb"colrnclx\0(.)\0(.)", re.DOTALL)
"""Colour space that is named by codes of ITU-T H.273: primaries and transfer function."""
RGB_FULL_RANGE = b"\0\1"
"""The other codes in the chunk cICP of a PNG."""
EXIF = re.compile(rb"(\0\0)(?:II\*\0|MM\0\*)")
"""Start of EXIF, after an offset or a header that ends with zeros."""
MAX_EXIF = 16
"""Largest number of places in an AVIF file that look like EXIF. Maker notes may contain further ones."""


def decode(contents: bytes, header: ImageHeader) -> tuple[NDArray[np.uint8], ImageHeader]:
    """Decode a file.

    Returns:
        The pixels of the first picture, upright, grey (H, W), BGR or BGRA (H, W, C); and the header with the number of
        pictures, Pillow's metadata, and codes of the colour space as the chunk cICP of a PNG.

    Raises:
        InputError: if the required package is not installed.
        EOFError, OSError, RuntimeError, SyntaxError, ValueError, struct.error: if the file cannot be decoded.
    """
    is_avif = b"avif" in contents[BRANDS_START : min(int.from_bytes(contents[:4], "big"), MAX_BRAND_BYTES)]
    image, info, pictures = (_avif if is_avif else _heic)(contents)
    codes = None if info.get("icc_profile") else COLOUR_CODES.search(contents)  # a profile takes precedence
    chunks = {b"cICP": codes[1] + codes[2] + RGB_FULL_RANGE} if codes else {}
    if image.mode == "L":
        pixels = np.asarray(image)
    else:
        has_alpha = "A" in image.mode
        pixels = np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA if has_alpha else cv2.COLOR_RGB2BGR))
    return pixels, ImageHeader(header.size, pictures, info, chunks)


def _avif(contents: bytes) -> tuple[Image, dict[Any, Any], int]:
    _check_exif(contents)
    image = AvifImageFile(BytesIO(contents))
    info = image.info.copy()
    image.info.pop("xmp", None)  # Pillow would apply its orientation, too
    return ImageOps.exif_transpose(image), info, image.n_frames


def _check_exif(contents: bytes) -> None:
    """Refuse EXIF with large or overlapping values: Pillow copies them all when it opens an AVIF file."""
    starts = [found.end(1) for found in islice(EXIF.finditer(contents), MAX_EXIF + 1)]
    if len(starts) > MAX_EXIF:
        raise ValueError("too many parts of the file look like EXIF")
    for start in starts:
        exif = contents[start:]
        if size_of_values(exif) > MAX_BYTES:
            raise ValueError("the values of its EXIF are too large, or overlap")


def _heic(contents: bytes) -> tuple[Image, dict[Any, Any], int]:
    """Open a HEIC file. libheif rotates the picture already, so the EXIF orientation is ignored."""
    try:
        from pillow_heif import open_heif
    except ImportError:
        raise InputError("HEIC requires pillow-heif; install it with pip install pillow-heif") from None
    file = open_heif(BytesIO(contents))
    return file.to_pillow(), file.info, 1
