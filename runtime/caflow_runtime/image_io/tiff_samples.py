"""Samples of TIFF files whose colours or alpha OpenCV would change (TIFF 6.0)."""

import struct

from caflow_runtime.image_io.tags import MALFORMED, ShortValue, first_short

PHOTOMETRIC, EXTRA_SAMPLES = 262, 338
CMYK = 5
"""Value of the tag PhotometricInterpretation."""
ASSOCIATED, UNASSOCIATED = 1, 2
"""Values of the tag ExtraSamples, for alpha that the stored colours are multiplied with, and for other alpha."""
STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def with_colours_as_stored(contents: bytes) -> bytes:
    """Return an image file whose colours the decoder does not multiply with alpha; other files are unchanged.

    libtiff multiplies the colours of 8-bit files with unassociated alpha. In the returned file the alpha is called
    associated, so that libtiff returns the stored colours, which are those of the unassociated alpha.
    """
    found = _first_short(contents, EXTRA_SAMPLES)
    if found is None or found.value != UNASSOCIATED:
        return contents
    changed = bytearray(contents)
    struct.pack_into(found.code, changed, found.start, ASSOCIATED)
    return bytes(changed)


def is_cmyk(contents: bytes) -> bool:
    """Return whether an image file is a CMYK TIFF, for which OpenCV returns an alpha that the file does not have."""
    found = _first_short(contents, PHOTOMETRIC)
    return found is not None and found.value == CMYK


def has_tiff_alpha(contents: bytes) -> bool:
    """Return whether an image file is a TIFF that calls one of its channels alpha."""
    found = _first_short(contents, EXTRA_SAMPLES)
    return found is not None and found.value in (ASSOCIATED, UNASSOCIATED)


def _first_short(contents: bytes, tag: int) -> ShortValue | None:
    if not contents.startswith(STARTS):
        return None
    try:
        return first_short(contents, tag)
    except MALFORMED:
        return None
