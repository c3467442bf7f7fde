"""EXIF of results, made upright and given new sizes in place, and the few tags of TIFF files that are copied.

Pillow would write all values of EXIF again. This would move the notes of cameras, which contain offsets, and lose
letters such as ü. Formats: TIFF 6.0, EXIF 3.0.
"""

import math
import struct
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction

from caflow_deploy.images.tiff_tags import KIND_BYTES, MALFORMED, Contents, Entry, Layout, read_entries, read_start

ORIENTATION, UPRIGHT = 274, 1
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
INCH, CENTIMETRE, CM_PER_INCH = 2, 3, 2.54
"""Values of the tag ResolutionUnit."""
XMP, IPTC, PROFILE = 700, 33723, 34675
EXIF_DIRECTORY, GPS_DIRECTORY = 34665, 34853
DESCRIPTIVE = {EXIF_DIRECTORY, GPS_DIRECTORY, 270, 271, 272, 306, 315, 33432}
"""Tags of a TIFF file about its origin: subdirectories, description, camera, time, artist and copyright."""
WIDTHS, HEIGHTS = {256, 0xA002}, {257, 0xA003}
"""Tags of the width (ImageWidth, PixelXDimension) and of the height (ImageLength, PixelYDimension)."""
THUMBNAILS = ((513, 514), (273, 279))
"""Pairs of tags with the offset and the size of a thumbnail: a JPEG file, or pixels in one strip."""
BYTE, SHORT, LONG, RATIONAL, UNDEFINED = 1, 3, 4, 5, 7
"""Types of values."""
MAX_DENOMINATOR = 1000
"""Largest denominator of a resolution, which is then right to a millionth."""
MAX_BYTES = 2**24
"""Largest size of the values of a directory together, in bytes."""


def upright(exif: bytes, width: int, height: int) -> bytes:
    """Return EXIF for an upright image of this size, without a thumbnail.

    All other values keep their offsets, because maker notes of cameras contain absolute offsets.

    Raises:
        ValueError, struct.error: if the EXIF is malformed.
    """
    layout, first = read_start(exif)
    if layout.is_big:
        raise ValueError("EXIF must not be a BigTIFF")
    changed = bytearray(exif)
    entries, following = read_entries(exif, layout, first)
    for entry in [*entries, *_below(exif, layout, entries)]:
        if entry.tag == ORIENTATION:
            struct.pack_into(layout.order + "HIHxx", changed, entry.place + 2, SHORT, 1, UPRIGHT)
        elif entry.tag in WIDTHS | HEIGHTS:
            side = width if entry.tag in WIDTHS else height
            struct.pack_into(layout.order + "HII", changed, entry.place + 2, LONG, 1, side)
    if following:
        struct.pack_into(layout.order + "I", changed, first + 2 + 12 * len(entries), 0)
        with suppress(*MALFORMED):
            _blank_thumbnails(changed, read_entries(exif, layout, following)[0])
    return bytes(changed)


def entries_of(contents: Contents) -> dict[int, Entry]:
    """Return the entries of the first directory of a TIFF file or EXIF, by tag.

    Raises:
        ValueError, struct.error: if the file is malformed.
    """
    return {entry.tag: entry for entry in read_entries(contents, *read_start(contents))[0]}


def dpi_of(contents: Contents) -> tuple[float, float] | None:
    """Return the resolution of a TIFF file or EXIF in pixels per inch, horizontal and vertical; None if unknown.

    Raises:
        ValueError, struct.error: if the file is malformed.
    """
    layout, entries = read_start(contents)[0], entries_of(contents)
    unit = entries[RESOLUTION_UNIT].value if RESOLUTION_UNIT in entries else INCH
    per_inch = CM_PER_INCH if unit == CENTIMETRE else unit == INCH
    x, y = (per_inch * _number(contents, layout, entries.get(tag)) for tag in (X_RESOLUTION, Y_RESOLUTION))
    return (x, y) if x > 0 < y else None


def resolution_fields(dpi: tuple[float, float]) -> dict[int, tuple[int, bytes]]:
    """Return the tags of a resolution, horizontal and vertical, in pixels per inch."""
    fields = {RESOLUTION_UNIT: (SHORT, struct.pack("<H", INCH))}
    for tag, side in zip((X_RESOLUTION, Y_RESOLUTION), dpi, strict=True):
        most = min(MAX_DENOMINATOR, 2**32 // math.ceil(side) - 1)
        fields[tag] = RATIONAL, struct.pack("<II", *Fraction(side).limit_denominator(most).as_integer_ratio())
    return fields


def with_fields(tiff: bytes, fields: dict[int, tuple[int, bytes]]) -> bytes:
    """Return a little-endian TIFF file with one directory, with additional tags in the directory.

    Arguments:
        fields: type of the values, a key of `KIND_BYTES`, and the values as little-endian bytes, by tag.
    """
    own = {tag: (entry.kind, tiff[entry.start : entry.start + entry.size]) for tag, entry in entries_of(tiff).items()}
    start = len(tiff) + len(tiff) % 2
    place = start + 2 + 12 * len(own | fields) + 4
    entries, data = b"", b""
    for tag, (kind, value) in sorted((own | fields).items()):
        entries += struct.pack("<HHI", tag, kind, len(value) // KIND_BYTES[kind])
        entries += value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", place + len(data))
        data += value + bytes(len(value) % 2) if len(value) > 4 else b""
    directory = struct.pack("<H", len(own | fields)) + entries + bytes(4) + data
    return tiff[:4] + struct.pack("<I", start) + tiff[8:].ljust(start - 8, b"\0") + directory


def _number(contents: Contents, layout: Layout, entry: Entry | None) -> float:
    """Return the first number of a tag; 0 if it has none, or its type is not supported."""
    if entry is None or entry.kind != RATIONAL or not entry.size:
        return float(entry.value or 0) if entry is not None else 0.0
    above, below = struct.unpack_from(layout.order + "II", contents, entry.start)
    return float(above / below) if below else 0.0


def _below(contents: bytes, layout: Layout, entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries of the EXIF subdirectory, if `entries` has one that is not malformed."""
    place = next((entry.value for entry in entries if entry.tag == EXIF_DIRECTORY), None)
    with suppress(*MALFORMED):
        return read_entries(contents, layout, place)[0] if place else []
    return []


def _blank_thumbnails(changed: bytearray, entries: Iterable[Entry]) -> None:
    """Overwrite thumbnails with zeros. A thumbnail at the end of the file is removed."""
    values = {entry.tag: entry.value or 0 for entry in entries}
    for starts, sizes in THUMBNAILS:
        start, size = values.get(starts, 0), values.get(sizes, 0)
        if 8 <= start < start + size < len(changed):
            changed[start : start + size] = bytes(size)
        elif 8 <= start < start + size == len(changed):
            del changed[start:]
