"""Decoding of PNG, JPEG, WebP, TIFF and BMP files by OpenCV.

Unlike Pillow, OpenCV decodes colours of 16 bits and of floating-point values.
"""

import struct
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from caflow_deploy.images.image_headers import CHECKSUM_BYTES, PNG_START, PNG_TEXTS, ImageHeader, number_of_scans
from caflow_deploy.images.tiff_tags import MALFORMED, Contents, Entry, read_entries, read_start
from caflow_runtime.errors import InputError
from caflow_runtime.interruptible import bounded

TURNED = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
"""Flags of OpenCV for decoding without alpha. The image is rotated as its EXIF orientation says."""
PHOTOMETRIC, EXTRA_SAMPLES, SHORT = 262, 338, 3
"""TIFF tags PhotometricInterpretation and ExtraSamples, and the type of their values."""
CMYK, LAB = 5, (8, 9, 10)
"""Values of PhotometricInterpretation. OpenCV would return wrong colours for CIELAB, ICCLab and ITULab."""
ASSOCIATED, UNASSOCIATED = 1, 2
"""Values of ExtraSamples, for alpha that the stored colours are multiplied with, and for other alpha."""
MAX_SCANNED_PIXELS, MAX_DECODING_S = 2**32, 30
"""Limits of decoding: pixels times scans of a progressive JPEG, which take some ten seconds; and seconds."""
Decoded = TypeVar("Decoded")
DAMAGED = "the JPEG is damaged: parts of the picture may be grey, shifted or missing; use an undamaged copy"
IHDR_BYTES, GREY = 13, 0
"""Size of the header of a PNG, and the colour type of grey images without alpha."""


def decode(contents: bytes, header: ImageHeader) -> tuple[NDArray[Any], list[str]]:
    """Decode the pixels of a file.

    Returns:
        Upright pixels, grey (H, W), BGR or BGRA (H, W, C); and messages about damage, and about alpha that was not
        read.

    Raises:
        InputError: if the image is not supported.
        cv2.error: if the file cannot be decoded.
    """
    photometric, extra = _tiff_samples(contents)
    stored = _with_colours_as_stored(contents, extra)
    flat = _decoded(stored, cv2.IMREAD_UNCHANGED)
    turned = flat if flat.dtype.kind == "f" else _decoded(stored, TURNED)  # floating point: always rotated, with alpha
    is_cmyk = photometric is not None and photometric.value == CMYK  # OpenCV returns an alpha that is not in the file
    if flat.ndim == 3 and flat.shape[2] == 4 and not is_cmyk:
        if not np.array_equal(turned.reshape(*turned.shape[:2], -1), flat[..., : turned[0, 0].size]):
            raise InputError("a transparent image with an EXIF rotation is not supported; save it upright")
        return flat, []
    wrong = [DAMAGED] if _is_damaged_jpeg(contents) else []
    if extra is not None and extra.value in (ASSOCIATED, UNASSOCIATED):
        wrong.append("its alpha was not copied: it is not supported for grey TIFF files; convert the image to PNG")
    return _with_transparent_grey(turned, header.chunks), wrong


def within_limits(decoding: Callable[[bytes], Decoded], contents: bytes, header: ImageHeader) -> Decoded:
    """Call a decoder with the contents of a file, and return its result. Texts are removed from a PNG before.

    Arguments:
        header: header of the file.

    Raises:
        InputError: if the decoder would return wrong colours, or takes too long.
    """
    photometric, _ = _tiff_samples(contents)
    if photometric is not None and photometric.value in LAB:
        raise InputError("TIFF files in CIELAB colours are not supported; convert the image to RGB")
    if (scans := number_of_scans(contents)) * header.size.width * header.size.height > MAX_SCANNED_PIXELS:
        raise InputError(f"it has {scans} scans, which take too long to decode; save the JPEG again")
    try:
        return bounded(partial(decoding, _without_texts(contents, header)), MAX_DECODING_S)
    except TimeoutError:
        raise InputError(f"decoding it takes more than {MAX_DECODING_S} s; save the image again") from None


def _without_texts(contents: bytes, header: ImageHeader) -> bytes:
    """Return a PNG without its texts, and other files unchanged."""
    if header.chunks.keys().isdisjoint(PNG_TEXTS):
        return contents
    kept, place, kind = [PNG_START], len(PNG_START), b""
    while kind != b"IEND" and place < len(contents):
        size, kind = int.from_bytes(contents[place : place + 4], "big"), contents[place + 4 : place + 8]
        following = place + 8 + size + CHECKSUM_BYTES
        if kind not in PNG_TEXTS:
            kept.append(contents[place:following])
        place = following
    return b"".join(kept)


def _decoded(contents: bytes, flags: int) -> NDArray[Any]:
    decoded = cv2.imdecode(np.frombuffer(contents, np.uint8), flags)
    if decoded is None:
        raise cv2.error("the file cannot be decoded")
    return np.asarray(decoded)


def _is_damaged_jpeg(contents: bytes) -> bool:
    """Return whether a file is a JPEG that can only be decoded with errors, which OpenCV does not report.

    `min_factor` makes decoding faster. Brightness alone is decoded, but errors of colours are found, too.
    """
    for strict in (True, False):
        try:
            simplejpeg.decode_jpeg(contents, "GRAY", min_factor=8, strict=strict)
        except ValueError:
            continue
        return not strict
    return False  # another format, or colours that simplejpeg cannot turn grey


def _tiff_samples(contents: Contents) -> list[Entry | None]:
    """Return the entries of PhotometricInterpretation and ExtraSamples; None for other files."""
    try:
        entries, _ = read_entries(contents, *read_start(contents))
    except MALFORMED:
        entries = []
    found = {entry.tag: entry for entry in reversed(entries) if entry.kind == SHORT}  # libtiff uses the first of two
    return [found.get(tag) for tag in (PHOTOMETRIC, EXTRA_SAMPLES)]


def _with_colours_as_stored(contents: bytes, extra: Entry | None) -> bytes:
    """Return an image file whose colours the decoder does not multiply with alpha; other files are unchanged.

    libtiff multiplies the colours of 8-bit files with unassociated alpha. In the returned file the alpha is called
    associated, so that libtiff returns the stored colours, which are those of the unassociated alpha.
    """
    if extra is None or extra.value != UNASSOCIATED:
        return contents
    changed = bytearray(contents)
    struct.pack_into(read_start(contents)[0].order + "H", changed, extra.start, ASSOCIATED)
    return bytes(changed)


def _with_transparent_grey(grey: NDArray[Any], chunks: dict[bytes, bytes]) -> NDArray[Any]:
    """Return a grey image with alpha, as four channels, if some pixels have the transparent value of a grey PNG.

    Other images are returned unchanged. In a PNG with colours the decoder finds the transparent pixels itself.
    """
    header, value = chunks.get(b"IHDR", b""), chunks.get(b"tRNS", b"")
    if len(header) != IHDR_BYTES or header[9] != GREY or len(value) != 2:
        return grey
    largest = (1 << header[8]) - 1
    stored = int.from_bytes(value, "big") & largest
    is_clear = grey == (stored * 255 // largest if largest < 255 else stored)
    if not is_clear.any():
        return grey
    alpha = np.where(is_clear, 0, np.iinfo(grey.dtype).max).astype(grey.dtype)
    return np.dstack([grey, grey, grey, alpha])
