"""Tag directories of TIFF files and EXIF. EXIF is a TIFF file without pixels (TIFF 6.0, EXIF 3.0).

The files come from untrusted sources. Every offset is checked against the end of the file, and at most `MAX_BYTES` are
copied.
"""

import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

MALFORMED = (ValueError, struct.error)
"""Exceptions that the functions of this module raise for malformed tags."""
EXIF_START = b"Exif\0\0"
"""Header before EXIF in JPEG and in some other files."""
ORIENTATION, UPRIGHT = 274, 1
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
XMP, IPTC, PROFILE = 700, 33723, 34675
EXIF_DIRECTORY, GPS_DIRECTORY, INTEROP_DIRECTORY = 34665, 34853, 40965
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
KIND_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
WORD_BYTES = KIND_BYTES | {5: 4, 10: 4}
"""Bytes of the unit that is reversed when the byte order changes, for each type."""
MAX_ENTRIES, MAX_BYTES = 4096, 2**24
"""Largest number of tags in one directory, and of bytes in all values together."""


class Field(NamedTuple):
    """Values of a tag."""

    kind: int
    """Type of the values, a key of `KIND_BYTES`."""
    data: bytes
    """Values as little-endian bytes."""


Directory = dict[int, "Field | Directory"]
"""Fields by tag. A tag that points to a subdirectory has the subdirectory as its value."""


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
    place: int
    """Offset of the entry."""
    start: int
    """Offset of the values."""
    size: int
    """Size of the values in bytes; 0 if they lie beyond the end of the file."""


class ShortValue(NamedTuple):
    """First value of a tag of type SHORT in a file."""

    code: str
    """Format of the value as in `struct`."""
    start: int
    """Offset of the value."""
    value: int


def upright(exif: bytes, width: int, height: int) -> bytes:
    """Return EXIF for an upright image of this size, without a thumbnail.

    All other values keep their offsets, because maker notes of cameras contain absolute offsets.

    Raises:
        ValueError, struct.error: if the EXIF is malformed.
    """
    layout, first = _start(exif)
    if layout.is_big:
        raise ValueError("EXIF must not be a BigTIFF")
    changed = bytearray(exif)
    entries, following = _entries(exif, layout, first)
    for entry in [*entries, *_below(exif, layout, entries)]:
        if entry.tag == ORIENTATION:
            struct.pack_into(layout.order + "HIHxx", changed, entry.place + 2, SHORT, 1, UPRIGHT)
        elif entry.tag in WIDTHS | HEIGHTS:
            side = width if entry.tag in WIDTHS else height
            struct.pack_into(layout.order + "HII", changed, entry.place + 2, LONG, 1, side)
    if following:
        struct.pack_into(layout.order + "I", changed, first + 2 + 12 * len(entries), 0)
        with suppress(*MALFORMED):
            _blank_thumbnails(changed, layout, following)
    return bytes(changed)


def first_directory(contents: bytes) -> Directory:
    """Return the descriptive tags of the first directory of a TIFF file or EXIF, with its subdirectories.

    Values beyond the end of the file are skipped.

    Raises:
        ValueError, struct.error: if the file is malformed.
    """
    layout, first = _start(contents)
    return _directory(contents, layout, first, MAX_BYTES)


def first_short(contents: bytes, tag: int) -> ShortValue | None:
    """Return the first value of a tag in the first directory; None if it has no such tag of type SHORT.

    Raises:
        ValueError, struct.error: if the file is malformed.
    """
    layout, first = _start(contents)
    for entry in _entries(contents, layout, first)[0]:
        if entry.tag == tag and entry.kind == SHORT and entry.size:
            code = layout.order + "H"
            return ShortValue(code, entry.start, *struct.unpack_from(code, contents, entry.start))
    return None


def exif_of(directory: Directory) -> bytes:
    """Return EXIF that contains a directory."""
    return b"II*\0" + struct.pack("<I", 8) + _written(directory, 8)


def with_fields(tiff: bytes, fields: Directory) -> bytes:
    """Return a TIFF file with additional tags in its first directory.

    Raises:
        ValueError, struct.error: if the file is malformed, has several directories, or is not a little-endian TIFF.
    """
    if not tiff.startswith(b"II*\0"):
        raise ValueError("expected a little-endian TIFF")
    layout, first = _start(tiff)
    entries, following = _entries(tiff, layout, first)
    if following:
        raise ValueError("expected a single directory")
    own: Directory = {entry.tag: Field(entry.kind, tiff[entry.start : entry.start + entry.size]) for entry in entries}
    start = len(tiff) + len(tiff) % 2
    return tiff[:4] + struct.pack("<I", start) + tiff[8:].ljust(start - 8, b"\0") + _written(own | fields, start)


def number(field: "Field | Directory | None") -> float:
    """Return the first number of a tag; 0 if it has none, or its type is not supported."""
    if not isinstance(field, Field):
        return 0.0
    if field.kind == RATIONAL and len(field.data) >= KIND_BYTES[RATIONAL]:
        above, below = struct.unpack_from("<II", field.data)
        return float(above / below) if below else 0.0
    code = {SHORT: "<H", LONG: "<I"}.get(field.kind)
    return float(struct.unpack_from(code, field.data)[0]) if code and len(field.data) >= struct.calcsize(code) else 0.0


def rational(value: float) -> Field:
    """Return a number as a RATIONAL with three decimals."""
    return Field(RATIONAL, struct.pack("<II", min(round(1000 * value), 2**32 - 1), 1000))


def _start(contents: bytes) -> tuple[Layout, int]:
    """Return the layout of a file, and the offset of its first directory."""
    order = {b"II": "<", b"MM": ">"}.get(contents[:2])
    if order is None:
        raise ValueError("it does not begin like a TIFF file")
    (version,) = struct.unpack_from(order + "H", contents, 2)
    if version not in (42, 43):
        raise ValueError("it is not a TIFF file")
    is_big = version == 43
    (first,) = struct.unpack_from(order + ("Q" if is_big else "I"), contents, 8 if is_big else 4)
    return Layout(order, is_big), first


def _entries(contents: bytes, layout: Layout, place: int) -> tuple[list[Entry], int]:
    """Return the entries of a directory, and the offset of the next directory, which is 0 if there is none.

    Values beyond the end of the file have the size 0.
    """
    if place > len(contents):
        raise ValueError("a directory lies beyond the end of the file")
    counts, offsets = ("Q", "Q") if layout.is_big else ("H", "I")
    head, inline = 4 + struct.calcsize("<" + offsets), struct.calcsize("<" + offsets)
    (count,) = struct.unpack_from(layout.order + counts, contents, place)
    if count > MAX_ENTRIES:
        raise ValueError("a directory has too many tags")
    place += struct.calcsize("<" + counts)
    entries = []
    for at in range(place, place + count * (head + inline), head + inline):
        tag, kind, values = struct.unpack_from(layout.order + "HH" + offsets, contents, at)
        size, start = values * KIND_BYTES.get(kind, 0), at + head
        if size > inline:
            (start,) = struct.unpack_from(layout.order + offsets, contents, start)
        entries.append(Entry(tag, kind, at, start, size if start + size <= len(contents) else 0))
    (following,) = struct.unpack_from(layout.order + offsets, contents, place + count * (head + inline))
    return entries, following


def _below(contents: bytes, layout: Layout, entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries of the EXIF subdirectory, if `entries` has one."""
    for entry in entries:
        if entry.tag == EXIF_DIRECTORY and entry.size:
            with suppress(*MALFORMED):
                return _entries(contents, layout, _integer(contents, layout, entry))[0]
    return []


def _integer(contents: bytes, layout: Layout, entry: Entry) -> int:
    code = {2: "H", 4: "I", 8: "Q"}.get(entry.size)
    if code is None:
        raise ValueError(f"tag {entry.tag} must contain exactly one integer")
    return int(struct.unpack_from(layout.order + code, contents, entry.start)[0])


def _blank_thumbnails(changed: bytearray, layout: Layout, place: int) -> None:
    """Overwrite thumbnails with zeros. A thumbnail at the end of the file is removed."""
    contents = bytes(changed)
    entries = {entry.tag: entry for entry in _entries(contents, layout, place)[0]}
    for starts, sizes in THUMBNAILS:
        if starts in entries and sizes in entries:
            start, size = (_integer(contents, layout, entries[tag]) for tag in (starts, sizes))
            if 8 <= start < start + size < len(changed):
                changed[start : start + size] = bytes(size)
            elif 8 <= start < start + size == len(changed):
                del changed[start:]


def _directory(contents: bytes, layout: Layout, place: int, most_bytes: int, parents: int = 0) -> Directory:
    found: Directory = {}
    for entry in _entries(contents, layout, place)[0]:
        if entry.tag in found or not (parents or entry.tag in DESCRIPTIVE | {XMP, IPTC, PROFILE}):
            continue  # a tag twice: reading nested duplicates might never end
        if entry.tag in (EXIF_DIRECTORY, GPS_DIRECTORY, INTEROP_DIRECTORY) and parents < 2:
            with suppress(*MALFORMED):
                below = _integer(contents, layout, entry)
                found[entry.tag] = _directory(contents, layout, below, most_bytes, parents + 1)
        elif entry.size:
            most_bytes -= entry.size
            if most_bytes < 0:
                raise ValueError("its values are too large")
            data = contents[entry.start : entry.start + entry.size]
            found[entry.tag] = Field(entry.kind, data if layout.order == "<" else _swapped(data, entry.kind))
    return found


def _swapped(data: bytes, kind: int) -> bytes:
    """Convert big-endian values to little-endian."""
    size = WORD_BYTES[kind]
    return b"".join(data[k : k + size][::-1] for k in range(0, len(data), size)) if size > 1 else data


def _written(directory: Directory, start: int) -> bytes:
    """Return a little-endian directory with all its values, to be placed at offset `start` of a file."""
    fields = sorted(directory.items())
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
