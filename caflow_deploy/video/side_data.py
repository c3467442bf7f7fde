"""Side data of decoded frames, such as display matrices and HDR10 metadata."""

import struct
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

PQ = 16
"""FFmpeg's number of the transfer function of HDR10 (SMPTE ST 2084)."""
CHROMATICITY, LUMINANCE = 50_000, 10_000
"""Units of the encoder per unit of CIE coordinates, and per cd/m²."""


def side_data_of(frame: Any) -> Mapping[str, Any] | None:
    """Return the side data of a PyAV frame by the names of their kinds; None if PyAV cannot read them.

    PyAV refuses to read any if FFmpeg attached a kind that it does not know, such as the EXIF metadata of Motion-JPEG.
    """
    try:
        return {side_data.type.name: side_data for side_data in frame.side_data}
    except ValueError:
        return None


def x265_hdr10(frame: Any) -> str:
    """Return the HDR10 metadata of a PyAV frame as parameters of x265; an empty text if there are none."""
    side_data = side_data_of(frame) or {}
    display, light = (side_data.get(name) for name in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"))
    found = [] if display is None else [_mastering_display(bytes(display))]
    if light is not None:
        found.append("max-cll={},{}".format(*struct.unpack_from("2I", bytes(light))))
    return ":".join(one for one in found if one)


def _mastering_display(data: bytes) -> str:
    """Return FFmpeg's AVMasteringDisplayMetadata in the notation of x265; an empty text if it is incomplete."""
    *numbers, has_primaries, has_luminance = struct.unpack_from("22i", data)
    if not (has_primaries and has_luminance):
        return ""
    values = [Fraction(a, b or 1) for a, b in zip(numbers[::2], numbers[1::2], strict=True)]
    red, green, blue, white = (
        "({},{})".format(*(round(value * CHROMATICITY) for value in values[k : k + 2])) for k in (0, 2, 4, 6)
    )
    least, most = (round(value * LUMINANCE) for value in values[8:])
    return f"master-display=G{green}B{blue}R{red}WP{white}L({most},{least})"
