"""EXIF of results: upright and with new sizes, and copied from and to TIFF files (TIFF 6.0, EXIF 3.0).

Pillow would write all values again. This would move the notes of cameras, which contain offsets, and lose letters such
as ü.
"""

import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from caflow_runtime.tiff_tags import KIND_BYTES, MALFORMED, Contents, Entry, Layout, read_entries, read_start

ORIENTATION, UPRIGHT = 274, 1
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
INCH, CENTIMETRE, CM_PER_INCH = 2, 3, 2.54
"""Values of the tag ResolutionUnit."""
XMP, IPTC, PROFILE = 700, 33723, 34675
EXIF_DIRECTORY, GPS_DIRECTORY, INTEROP_DIRECTORY = 34665, 34853, 40965
PARENTS = {EXIF_DIRECTORY: None, GPS_DIRECTORY: None, INTEROP_DIRECTORY: EXIF_DIRECTORY}
"""For each tag of a subdirectory, the directory that may contain it; None stands for the first directory."""
WIDTHS, HEIGHTS = {256, 0xA002}, {257, 0xA003}
"""Tags of the width (ImageWidth, PixelXDimension) and of the height (ImageLength, PixelYDimension)."""
THUMBNAILS = ((513, 514), (273, 279))
"""Pairs of tags with the offset and the size of a thumbnail: a JPEG file, or pixels in one strip."""
DESCRIPTIVE = {
    *(269, 270, 271, 272, ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, 285, 305, 306, 315, 316, 33432),
    *(0x4746, 0x4749, *range(0x9C9B, 0x9CA0)),
    *(EXIF_DIRECTORY, GPS_DIRECTORY),
}
"""Tags of the first directory that describe the picture, not the storage of its pixels. EXIF may contain them, too."""
BYTE, SHORT, LONG, RATIONAL, UNDEFINED = 1, 3, 4, 5, 7
WORD_BYTES = KIND_BYTES | {5: 4, 10: 4}
"""Bytes of the unit that is reversed when the byte order changes, for each type."""
MAX_BYTES = 2**24
"""Largest size of all values together, in bytes."""


class Field(NamedTuple):
    """Values of a tag."""

    kind: int
    """Type of the values, a key of `KIND_BYTES`."""
    data: bytes
    """Values as little-endian bytes."""


Directory = dict[int, "Field | Directory"]
"""Fields by tag. A tag that points to a subdirectory has the subdirectory as its value."""


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


def first_directory(contents: Contents) -> Directory:
    """Return the descriptive tags of the first directory of a TIFF file or EXIF, with its subdirectories.

    Values beyond the end of the file, and malformed subdirectories, are skipped.

    Raises:
        ValueError, struct.error: if the file is malformed.
    """
    layout, first = read_start(contents)
    found: Directory = {}
    pending: list[tuple[int | None, Directory, list[Entry]]] = [(None, found, read_entries(contents, layout, first)[0])]
    left = min(MAX_BYTES, len(contents))  # values of a usual file do not overlap
    while pending:
        parent, directory, entries = pending.pop()
        for entry in entries:
            if entry.tag in directory or not (parent or entry.tag in DESCRIPTIVE | {XMP, IPTC, PROFILE}):
                continue  # a tag twice: thousands could point to the same subdirectory
            if entry.tag in PARENTS:
                if PARENTS[entry.tag] == parent:
                    directory[entry.tag] = fields = Directory()
                    with suppress(*MALFORMED):
                        pending.append((entry.tag, fields, read_entries(contents, layout, entry.value or 0)[0]))
            elif entry.size:
                left -= entry.size
                if left < 0:
                    raise ValueError("its values are too large, or overlap")
                data = contents[entry.start : entry.start + entry.size]
                directory[entry.tag] = Field(entry.kind, _little_endian(data, entry.kind, layout))
    return found


def exif_of(directory: Directory) -> bytes:
    """Return EXIF that contains a directory."""
    return b"II*\0" + struct.pack("<I", 8) + _written(directory, 8)


def with_fields(tiff: bytes, fields: Directory) -> bytes:
    """Return a little-endian TIFF file with one directory, with additional tags in the directory."""
    entries, _ = read_entries(tiff, *read_start(tiff))
    own: Directory = {entry.tag: Field(entry.kind, tiff[entry.start : entry.start + entry.size]) for entry in entries}
    start = len(tiff) + len(tiff) % 2
    return tiff[:4] + struct.pack("<I", start) + tiff[8:].ljust(start - 8, b"\0") + _written(own | fields, start)


def dpi_of(directory: Directory) -> tuple[float, float] | None:
    """Return the resolution in pixels per inch, horizontal and vertical; None if it is unknown."""
    unit = _number(directory.get(RESOLUTION_UNIT)) or INCH
    per_inch = CM_PER_INCH if unit == CENTIMETRE else unit == INCH
    x, y = (per_inch * _number(directory.get(tag)) for tag in (X_RESOLUTION, Y_RESOLUTION))
    return (x, y) if x > 0 < y else None


def _number(field: "Field | Directory | None") -> float:
    """Return the first number of a tag; 0 if it has none, or its type is not supported."""
    if not isinstance(field, Field):
        return 0.0
    if field.kind == RATIONAL and len(field.data) >= KIND_BYTES[RATIONAL]:
        above, below = struct.unpack_from("<II", field.data)
        return float(above / below) if below else 0.0
    code = {SHORT: "<H", LONG: "<I"}.get(field.kind)
    return float(struct.unpack_from(code, field.data)[0]) if code and len(field.data) >= struct.calcsize(code) else 0.0


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


def _little_endian(data: bytes, kind: int, layout: Layout) -> bytes:
    word = WORD_BYTES[kind]
    return data if layout.order == "<" or word == 1 else np.frombuffer(data, f">u{word}").astype(f"<u{word}").tobytes()


def _written(directory: Directory, start: int) -> bytes:
    """Return a little-endian directory with all its values, to be placed at offset `start` of a file.

    Empty subdirectories are left out.
    """
    fields = sorted((tag, field) for tag, field in directory.items() if field)
    place = start + 2 + 12 * len(fields) + 4
    entries, data = [], bytearray()
    for tag, field in fields:
        if isinstance(field, Field):
            kind, count, value = field.kind, len(field.data) // KIND_BYTES[field.kind], field.data
        else:
            kind, count, value = LONG, 1, _written(field, place + len(data))
        if isinstance(field, Field) and len(value) <= 4:
            entries.append(struct.pack("<HHI4s", tag, kind, count, value))
        else:
            entries.append(struct.pack("<HHII", tag, kind, count, place + len(data)))
            data += value + bytes(len(value) % 2)
    return struct.pack("<H", len(fields)) + b"".join(entries) + bytes(4) + bytes(data)
