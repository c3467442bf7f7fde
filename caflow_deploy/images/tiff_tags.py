"""Tags in the directories of TIFF files and of EXIF, which is a TIFF file without pixels (TIFF 6.0, BigTIFF).

Pillow's reader is not used here. It copies all values of a directory, so a small file whose values overlap would fill
the memory, and it refuses TIFF files with several floating-point channels. Here every offset is checked against the end
of the file, and no value is copied.
"""

import math
import struct
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from mmap import mmap
from typing import NamedTuple

Contents = bytes | mmap
"""Contents of a file."""
MALFORMED = (ValueError, struct.error)
"""Exceptions that the functions of this module raise for malformed tags."""
STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of TIFF files and EXIF: little-endian, big-endian, and BigTIFF in both byte orders."""
KIND_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Size of one value in bytes, by its type."""
INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""Unsigned types, with their format characters of `struct`."""
MAX_ENTRIES = 4096
"""Largest number of tags in one directory."""


class Layout(NamedTuple):
    """Layout of numbers in a file."""

    order: str
    """Byte order, "<" or ">" as in `struct`."""
    is_big: bool
    """Whether the file is a BigTIFF, with 64-bit offsets."""


class Entry(NamedTuple):
    """Directory entry of a tag in a file."""

    tag: int
    kind: int
    """Type of the values, a key of `KIND_BYTES`."""
    place: int
    """Offset of the entry."""
    start: int
    """Offset of the values."""
    size: int
    """Size of the values in bytes; 0 if they lie beyond the end of the file, or their type is unknown."""
    value: int | None
    """First value if it is an unsigned integer, else None."""


def read_start(contents: Contents) -> tuple[Layout, int]:
    """Return the layout of a TIFF file, and the offset of its first directory.

    Raises:
        ValueError, struct.error: if the file is malformed.
    """
    if contents[:4] not in STARTS:
        raise ValueError("it does not begin like a TIFF file")
    layout = Layout("<" if contents[:2] == b"II" else ">", contents[2:4] in (b"+\0", b"\0+"))
    (first,) = struct.unpack_from(layout.order + ("Q" if layout.is_big else "I"), contents, 8 if layout.is_big else 4)
    if first < (16 if layout.is_big else 8):
        raise ValueError("its first directory overlaps its header")
    return layout, first


def read_entries(contents: Contents, layout: Layout, place: int) -> tuple[list[Entry], int]:
    """Return the entries of a directory, and the offset of the next directory, which is 0 if there is none.

    Raises:
        ValueError, struct.error: if the directory is malformed.
    """
    if place > len(contents):
        raise ValueError("a directory lies beyond the end of the file")
    counts, offsets, inline = ("Q", "Q", 8) if layout.is_big else ("H", "I", 4)
    (count,) = struct.unpack_from(layout.order + counts, contents, place)
    if count > MAX_ENTRIES:
        raise ValueError("a directory has too many tags")
    place += struct.calcsize("<" + counts)
    entries = []
    for at in range(place, place + count * (4 + 2 * inline), 4 + 2 * inline):
        tag, kind, values = struct.unpack_from(layout.order + "HH" + offsets, contents, at)
        size, start = values * KIND_BYTES.get(kind, 0), at + 4 + inline
        if size > inline:
            (start,) = struct.unpack_from(layout.order + offsets, contents, start)
        size, value = size if start + size <= len(contents) else 0, None
        if size and kind in INTEGERS:
            (value,) = struct.unpack_from(layout.order + INTEGERS[kind], contents, start)
        entries.append(Entry(tag, kind, at, start, size, value))
    (following,) = struct.unpack_from(layout.order + offsets, contents, place + count * (4 + 2 * inline))
    return entries, following


ORIENTATION, UPRIGHT = 274, 1
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
INCH, CENTIMETRE, CM_PER_INCH = 2, 3, 2.54
"""Values of the tag ResolutionUnit."""
XMP, IPTC, PROFILE = 700, 33723, 34675
EXIF_DIRECTORY, GPS_DIRECTORY, INTEROPERABILITY = 34665, 34853, 40965
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


def size_of_values(exif: bytes) -> int:
    """Return the bytes of all values together: of EXIF, and of its subdirectories. Values may overlap.

    Raises:
        struct.error, ValueError: if EXIF is malformed.
    """
    layout, first = read_start(exif)
    found, last = [], read_entries(exif, layout, first)[0]
    for tags in ((EXIF_DIRECTORY, GPS_DIRECTORY), (INTEROPERABILITY,)):
        found += last
        last = [entry for tag in tags for entry in _below(exif, layout, last, tag)]
    return sum(entry.size for entry in (*found, *last))


def _below(contents: bytes, layout: Layout, entries: Iterable[Entry], tag: int = EXIF_DIRECTORY) -> list[Entry]:
    """Return the entries of a subdirectory, if `entries` has one that is not malformed."""
    place = next((entry.value for entry in entries if entry.tag == tag), None)
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
