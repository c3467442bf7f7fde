"""Colour chunks of PNG files: gAMA, cHRM and cICP, which name a colour space without a profile (W3C, third edition).

Images without such chunks have the colours of sRGB, so chunks that name sRGB are left out.
"""

import struct
import zlib
from collections.abc import Mapping

COLOUR_CHUNK_BYTES = {b"gAMA": 4, b"cHRM": 32, b"cICP": 4}
"""Sizes of the chunks that name a colour space."""
SRGB_GAMMA, GAMMA_TOLERANCE = 45455, 100
"""Value of gAMA for sRGB, and the largest difference of other usual roundings of 1/2.2."""
SRGB_CORNERS, CORNER_TOLERANCE = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000), 100
"""Values of cHRM for sRGB: white, red, green and blue."""
UNSPECIFIED = 2
SRGB_PRIMARIES, SRGB_CURVES = {1, UNSPECIFIED}, {1, UNSPECIFIED, 6, 13, 14, 15}
"""Codes of ITU-T H.273 for the primaries of BT.709 and sRGB; and for the transfer functions of sRGB, and of BT.709,
which still images are shown with as if it were that of sRGB."""
FULL_RANGE = 1


def colours_of(chunks: Mapping[bytes, bytes]) -> bytes | None:
    """Return the whole chunks that decide about the colours of a PNG; None if its colours are those of sRGB.

    cICP takes precedence over a profile (iCCP) and over sRGB, and all of them over gAMA and cHRM.
    """
    known = {kind: chunks[kind] for kind, size in COLOUR_CHUNK_BYTES.items() if len(chunks.get(kind, b"")) == size}
    if (codes := known.get(b"cICP")) is not None:
        is_srgb = codes[0] in SRGB_PRIMARIES and codes[1] in SRGB_CURVES and codes[3] == FULL_RANGE
        return None if is_srgb and b"iCCP" not in chunks else _chunk(b"cICP", codes)
    if not known or b"iCCP" in chunks or b"sRGB" in chunks or _is_srgb(known):
        return None
    return b"".join(_chunk(kind, data) for kind, data in known.items())


def _chunk(kind: bytes, data: bytes) -> bytes:
    """Return a whole chunk of a PNG file, with its size and its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _is_srgb(known: Mapping[bytes, bytes]) -> bool:
    """Return whether gAMA and cHRM, where they exist, are those of sRGB."""
    gamma = int.from_bytes(known[b"gAMA"], "big") if b"gAMA" in known else SRGB_GAMMA
    corners = struct.unpack(">8I", known[b"cHRM"]) if b"cHRM" in known else SRGB_CORNERS
    distances = (abs(own - usual) for own, usual in zip(corners, SRGB_CORNERS, strict=True))
    return abs(gamma - SRGB_GAMMA) <= GAMMA_TOLERANCE and max(distances) <= CORNER_TOLERANCE
