"""Metadata of JPEG files: JFIF, EXIF, XMP (part 3 of its specification), ICC profile, IPTC in Photoshop resources."""

import struct
from collections.abc import Iterator
from dataclasses import replace

from caflow_runtime.image_formats import END_OF_IMAGE, JPEG_START, MARKER, START_OF_SCAN, WITHOUT_SEGMENT
from caflow_runtime.image_io.metadata import CM_PER_INCH, Metadata, Resolution
from caflow_runtime.image_io.photoshop import iptc_of, iptc_resource
from caflow_runtime.image_io.tags import EXIF_START

XMP_START = b"http://ns.adobe.com/xap/1.0/\0"
PROFILE_START, PHOTOSHOP_START, JFIF_START = b"ICC_PROFILE\0", b"Photoshop 3.0\0", b"JFIF\0"
APP0, APP1, APP2, APP13 = 0xE0, 0xE1, 0xE2, 0xED
JFIF_BYTES = 12
"""Bytes of JFIF data up to the end of the resolution."""
PER_INCH, PER_CM = 1, 2
"""Units of the resolution in JFIF."""
MAX_SEGMENTS = 2**16
"""Largest number of segments that are read."""
MAX_BYTES = 65533
"""Largest size of the data of a segment."""
LIMITS = {
    "profile": 255 * (MAX_BYTES - len(PROFILE_START) - 2),
    "exif": MAX_BYTES - len(EXIF_START),
    "xmp": MAX_BYTES - len(XMP_START),
    "iptc": MAX_BYTES - len(PHOTOSHOP_START) - 13,
}
"""Largest size in bytes of each kind of metadata."""


def read_jpeg(contents: bytes) -> Metadata:
    """Return the metadata of a JPEG file. Only the first XMP segment is read, without extended XMP."""
    found, profile, photoshop = Metadata(), dict[int, bytes](), b""
    for marker, data in _jpeg_segments(contents):
        if marker == APP0 and data.startswith(JFIF_START) and len(data) >= JFIF_BYTES:
            unit, x, y = struct.unpack_from(">BHH", data, 7)
            found = replace(found, resolution=Resolution(x, y, unit == PER_CM) if unit in (PER_INCH, PER_CM) else None)
        elif marker == APP1 and data.startswith(EXIF_START) and found.exif is None:
            found = replace(found, exif=data.removeprefix(EXIF_START))
        elif marker == APP1 and data.startswith(XMP_START) and found.xmp is None:
            found = replace(found, xmp=data.removeprefix(XMP_START))
        elif marker == APP2 and data.startswith(PROFILE_START) and len(data) > len(PROFILE_START) + 2:
            profile[data[len(PROFILE_START)]] = data[len(PROFILE_START) + 2 :]
        elif marker == APP13 and data.startswith(PHOTOSHOP_START):
            photoshop += data.removeprefix(PHOTOSHOP_START)
    whole = b"".join(profile[k] for k in sorted(profile)) if profile else None
    return replace(found, profile=whole, iptc=iptc_of(photoshop))


def _jpeg_segments(contents: bytes) -> Iterator[tuple[int, bytes]]:
    place = len(JPEG_START)
    for _ in range(MAX_SEGMENTS):
        found = MARKER.search(contents, place)
        if found is None or found[1][0] in (START_OF_SCAN, END_OF_IMAGE) or found.end() + 2 > len(contents):
            return
        marker, place = found[1][0], found.end()
        if marker not in WITHOUT_SEGMENT:
            (size,) = struct.unpack_from(">H", contents, place)
            yield marker, contents[place + 2 : place + size]
            place += max(2, size)


def write_jpeg(contents: bytes, metadata: Metadata) -> bytes:
    """Return a JPEG file with metadata. The metadata must not exceed `LIMITS`."""
    segments = []
    if metadata.exif is not None:
        segments.append((APP1, EXIF_START + metadata.exif))
    if metadata.xmp is not None:
        segments.append((APP1, XMP_START + metadata.xmp))
    if metadata.iptc is not None:
        segments.append((APP13, PHOTOSHOP_START + iptc_resource(metadata.iptc)))
    if metadata.profile is not None:
        most = MAX_BYTES - len(PROFILE_START) - 2
        parts = [metadata.profile[k : k + most] for k in range(0, len(metadata.profile), most)]
        segments += [(APP2, PROFILE_START + bytes([k, len(parts)]) + part) for k, part in enumerate(parts, 1)]
    written = b"".join(struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data for marker, data in segments)
    place = len(JPEG_START)
    is_jfif = contents[place : place + 2] == bytes([0xFF, APP0]) and contents.startswith(JFIF_START, place + 4)
    if not is_jfif:
        return contents[:place] + written + contents[place:]
    (size,) = struct.unpack_from(">H", contents, place + 2)
    head = bytearray(contents[: place + 2 + size])
    if metadata.resolution is not None:
        struct.pack_into(">BHH", head, place + 11, *_jfif_resolution(metadata.resolution))
    return bytes(head) + written + contents[len(head) :]


def _jfif_resolution(resolution: Resolution) -> tuple[int, int, int]:
    """Return the unit, x and y. Only integers can be stored; centimetres are used only if they are integers already."""
    in_cm = resolution.per_cm and resolution.x % 1 == resolution.y % 1 == 0
    x, y = (max(1, min(round(side), 0xFFFF)) for side in resolution.per(1.0 if in_cm else CM_PER_INCH))
    return PER_CM if in_cm else PER_INCH, x, y
