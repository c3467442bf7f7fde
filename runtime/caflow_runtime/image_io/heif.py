"""Reading of AVIF and HEIC files (ISO/IEC 23008-12). AVIF requires Pillow, HEIC requires pillow-heif.

Both packages are optional. The wheels of pillow-heif contain x265, which is licensed under the GPL.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.errors import InputError
from caflow_runtime.image_formats import ImageSize
from caflow_runtime.image_io.metadata import Metadata
from caflow_runtime.image_io.png_colours import colours_of_codes
from caflow_runtime.image_io.tags import EXIF_START

if TYPE_CHECKING:
    from PIL.Image import Image

BRANDS_START, MAX_BRAND_BYTES = 8, 256
UNDECODABLE = (EOFError, OSError, RuntimeError, SyntaxError, ValueError)
"""Exceptions that both libraries raise for files that they cannot decode."""
MAX_BOXES = 2**16
PROPERTIES = ((b"meta", 4), (b"iprp", 0), (b"ipco", 0))
"""Nested boxes that lead to the properties of pictures, outermost first, and the bytes to skip at the start of each
box."""
SIZES, COLOURS = (*PROPERTIES, (b"ispe", 4)), (*PROPERTIES, (b"colr", 0))
"""Boxes of the sizes and of the colour spaces of pictures, in the same form."""
CODES = b"nclx"
"""Type of a colour space that is named by codes of ITU-T H.273."""
MAX_CODE = 255
MODES = ("L", "LA", "RGB", "RGBA")


def is_heif(contents: bytes) -> bool:
    """Return whether a file has the container format of AVIF and HEIC."""
    return contents[4:8] == b"ftyp"


def claimed_size(contents: bytes) -> ImageSize | None:
    """Return the largest width and height in the file's headers, including tiles and thumbnails; None without any."""
    try:
        sizes = [struct.unpack_from(">II", contents, start) for start in _found(contents, SIZES, 0, len(contents))]
    except (struct.error, ValueError):
        return None
    return ImageSize(max(width for width, _ in sizes), max(height for _, height in sizes)) if sizes else None


def decode(contents: bytes) -> tuple[NDArray[np.uint8], Metadata, int]:
    """Decode a file.

    Returns:
        The pixels of the first picture, upright, (H, W, C) uint8: grey or RGB, each with or without alpha; its
        metadata; and the number of pictures in the file.

    Raises:
        InputError: if the required package is not installed.
        EOFError, OSError, RuntimeError, SyntaxError, ValueError: if the file cannot be decoded.
    """
    image, known, count = _avif(contents) if _is_avif(contents) else _heic(contents)
    pixels = np.asarray(image if image.mode in MODES else image.convert("RGBA" if "A" in image.mode else "RGB"))
    exif = known.get("exif")
    exif = exif.removeprefix(EXIF_START) if exif else None
    profile = known.get("icc_profile") or None  # takes precedence over codes
    colours = _colours(contents) if profile is None else None
    metadata = Metadata(profile, exif, known.get("xmp") or None, png_colours=colours)
    return np.atleast_3d(pixels), metadata, count


def _is_avif(contents: bytes) -> bool:
    (size,) = struct.unpack_from(">I", contents)
    return b"avif" in contents[BRANDS_START : min(size, MAX_BRAND_BYTES)]


def _avif(contents: bytes) -> "tuple[Image, dict[Any, Any], int]":
    """Open an AVIF file. `Image.open` is avoided, because its limit on pixels is a global setting of the process."""
    try:
        from PIL import ImageOps
        from PIL.AvifImagePlugin import AvifImageFile
    except ImportError:
        raise InputError(
            "AVIF requires Pillow 11.3 or later; install it with pip install 'caflow-deploy[avif]'"
        ) from None
    image = AvifImageFile(BytesIO(contents))
    known = image.info.copy()
    image.info.pop("xmp", None)  # Pillow would apply its orientation, too
    return ImageOps.exif_transpose(image), known, image.n_frames


def _heic(contents: bytes) -> "tuple[Image, dict[Any, Any], int]":
    """Open a HEIC file. libheif rotates the picture already, so the EXIF orientation is ignored."""
    try:
        from pillow_heif import open_heif
    except ImportError:
        raise InputError("HEIC requires pillow-heif; install it with pip install 'caflow-deploy[heic]'") from None
    file = open_heif(BytesIO(contents))
    return file.to_pillow(), file.info, 1


def _found(contents: bytes, path: Sequence[tuple[bytes, int]], start: int, end: int) -> Iterator[int]:
    """Yield the offset of the contents of each box that a path of nested boxes leads to."""
    (wanted, head), *below = path
    for kind, begin, stop in _boxes(contents, start, end):
        if kind == wanted and below:
            yield from _found(contents, below, begin + head, stop)
        elif kind == wanted:
            yield begin + head


def _colours(contents: bytes) -> bytes | None:
    """Return the colour space that codes name, as the chunk of a PNG; None if there are no codes, or those of sRGB."""
    with suppress(struct.error, ValueError):
        for start in _found(contents, COLOURS, 0, len(contents)):
            kind, primaries, curve = struct.unpack_from(">4sHH", contents, start)
            if kind == CODES and max(primaries, curve) <= MAX_CODE:
                return colours_of_codes(primaries, curve)
    return None


def _boxes(contents: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type of each box, and the offsets of the start and end of its contents."""
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", contents, start)
        head = 8
        if size == 1:
            (size,), head = struct.unpack_from(">Q", contents, start + 8), 16
        elif size == 0:  # The box extends to the end.
            size = end - start
        if size < head:
            raise ValueError("a box is smaller than its header")
        yield kind, start + head, min(start + size, end)
        start += size
