"""Images as programs have them: a path, the bytes of a file, an open file, a PIL image, or an array."""

from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from caflow_deploy.images.file_search import MAX_IMAGE_PIXELS
from caflow_deploy.images.image_files import (
    MAX_BYTES_PER_PIXEL,
    MAX_OTHER_BYTES,
    ImageFile,
    check_pixels,
    decode_image,
    image_of_array,
    read_image,
)
from caflow_runtime.checks import check_integer
from caflow_runtime.errors import InputError, TooLarge, UnreadableImage

AnyImage = str | PathLike[str] | bytes | BinaryIO | PIL.Image.Image | NDArray[Any] | ImageFile
"""Path of an image file, its contents, an open file, a PIL image, or an array: (H, W) grey, (H, W, 3) RGB or (H, W, 4)
RGBA, of uint8 or uint16. PIL images and arrays do not tell how strongly a JPEG was compressed, which also decides which
model fits it."""
STORED = {"1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"}
"""Modes of PIL images that PNG files store."""


def as_image_file(image: AnyImage, max_pixels: int = MAX_IMAGE_PIXELS, what: str = "image") -> ImageFile:
    """Return an image as it would have been read from a file, with alpha, bits, orientation and metadata.

    Arguments:
        max_pixels: largest number of pixels, as in `read_image`.
        what: name of the argument in messages.

    Raises:
        InputError: if it is none of the types of `AnyImage`, or an array of another shape or type.
        UnreadableImage: if it is a file or contents that cannot be read, as from `read_image`.
    """
    check_integer("max_pixels", max_pixels, 1)
    if isinstance(image, ImageFile):
        return image
    if isinstance(image, str | PathLike):
        return read_image(Path(image), max_pixels)
    if isinstance(image, np.ndarray):
        found = image_of_array(image)
        check_pixels(Path(what), found.rgb.shape[1], found.rgb.shape[0], max_pixels)
        return found
    if isinstance(image, PIL.Image.Image):
        try:
            contents = _as_png(image)
        except (OSError, SyntaxError, ValueError) as error:  # PIL decodes a file when its pixels are first needed
            raise UnreadableImage(Path(what), f"PIL cannot decode it: {error}") from None
        return decode_image(contents, Path(what), max_pixels)
    most = MAX_BYTES_PER_PIXEL * max_pixels + MAX_OTHER_BYTES
    contents = image.read(most + 1) if hasattr(image, "read") else image
    if not isinstance(contents, bytes):
        raise InputError(
            f"{what}: expected a path, the bytes of a file, an open binary file, a PIL image or an array; got "
            f"{type(image).__name__}"
        )
    path = Path(str(getattr(image, "name", what)))
    if len(contents) > most:
        raise TooLarge(
            path, f"it has more than {most} bytes, more than an image within the limit of pixels can have (max_pixels)"
        )
    return decode_image(contents, path, max_pixels)


def _as_png(image: PIL.Image.Image) -> bytes:
    """Return the contents of a PNG file of an image, with its EXIF and colour profile."""
    stored = image if image.mode in STORED else image.convert("RGB")
    file = BytesIO()
    stored.save(file, "PNG", compress_level=1, exif=image.getexif(), icc_profile=image.info.get("icc_profile"))
    return file.getvalue()
