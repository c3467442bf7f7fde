"""Directories of tags, as TIFF files and EXIF have them: EXIF is a TIFF file without pixels (TIFF 6.0, EXIF 3.0).

Other people's files are read here. Nothing is believed: a place beyond the end ends the reading, and no more is copied
than `MOST_BYTES`.
"""

import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

MALFORMED = (ValueError, struct.error)
"""What is raised where tags cannot be read."""
EXIF_START = b"Exif\0\0"
"""What stands before EXIF in JPEG, and in some other files."""
ORIENTATION, UPRIGHT = 274, 1
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
XMP, IPTC, PROFILE = 700, 33723, 34675
EXIF_DIRECTORY, GPS_DIRECTORY, INTEROP_DIRECTORY = 34665, 34853, 40965
WIDTHS, HEIGHTS = {256, 0xA002}, {257, 0xA003}
"""ImageWidth and PixelXDimension, ImageLength and PixelYDimension."""
THUMBNAILS = ((513, 514), (273, 279))
"""Where a thumbnail begins, and its bytes: of a JPEG, or of pixels in one strip."""
DESCRIPTIVE = {
    *(269, 270, 271, 272, ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, 285, 305, 306, 315, 316, 33432),
    *(0x4746, 0x4749, *range(0x9C9B, 0x9CA0)),
    *(EXIF_DIRECTORY, GPS_DIRECTORY),
}
"""Tags of a file's first directory that describe the picture, and not how its pixels are stored: EXIF has them, too."""
BYTE, SHORT, LONG, RATIONAL, UNDEFINED = 1, 3, 4, 5, 7
KIND_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
WORD_BYTES = KIND_BYTES | {5: 4, 10: 4}
"""Of what is swapped where bytes are in another order."""
MOST_ENTRIES, MOST_BYTES = 4096, 2**24
"""In one directory, and in all values together."""


class Field(NamedTuple):
    """The values of a tag."""

    kind: int
    """Of `KIND_BYTES`."""
    data: bytes
    """Little-endian."""


Directory = dict[int, "Field | Directory"]
"""Tags, with the directories below in their places."""


class Layout(NamedTuple):
    """How numbers are written."""

    order: str
    """As `struct` names it."""
    is_big: bool
    """BigTIFF."""


class Entry(NamedTuple):
    """Where a tag lies in a file."""

    tag: int
    kind: int
    place: int
    start: int
    """Of its values."""
    size: int
    """Of its values, in bytes."""


def upright(exif: bytes, width: int, height: int) -> bytes:
    """Return EXIF for an image of that size that needs no turning, without the thumbnail of the one that it is from.

    All else stays where it is, as the notes of camera makers hold places.

    Raises:
        ValueError, struct.error: if it is malformed.
    """
    layout, first = _start(exif)
    if layout.is_big:
        raise ValueError("it is a BigTIFF")
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
    """Read what describes the picture in the first directory of a TIFF file or of EXIF, and the directories below it.

    What lies beyond the end is left out.

    Raises:
        ValueError, struct.error: if it is malformed.
    """
    layout, first = _start(contents)
    return _directory(contents, layout, first, MOST_BYTES)


def exif_of(directory: Directory) -> bytes:
    """Return EXIF that holds a directory."""
    return b"II*\0" + struct.pack("<I", 8) + _written(directory, 8)


def with_fields(tiff: bytes, fields: Directory) -> bytes:
    """Return a TIFF file with further tags in its first directory.

    Raises:
        ValueError, struct.error: if it is malformed, has several directories, or is no little-endian TIFF.
    """
    if not tiff.startswith(b"II*\0"):
        raise ValueError("wanted a little-endian TIFF")
    layout, first = _start(tiff)
    entries, following = _entries(tiff, layout, first)
    if following:
        raise ValueError("wanted one directory")
    own: Directory = {entry.tag: Field(entry.kind, tiff[entry.start : entry.start + entry.size]) for entry in entries}
    start = len(tiff) + len(tiff) % 2
    return tiff[:4] + struct.pack("<I", start) + tiff[8:].ljust(start - 8, b"\0") + _written(own | fields, start)


def number(field: "Field | Directory | None") -> float:
    """Return the first number of a tag; 0 if it has none."""
    if not isinstance(field, Field):
        return 0.0
    if field.kind == RATIONAL and len(field.data) >= KIND_BYTES[RATIONAL]:
        above, below = struct.unpack_from("<II", field.data)
        return float(above / below) if below else 0.0
    code = {SHORT: "<H", LONG: "<I"}.get(field.kind)
    return float(struct.unpack_from(code, field.data)[0]) if code and len(field.data) >= struct.calcsize(code) else 0.0


def rational(value: float) -> Field:
    """Return a number with three decimals."""
    return Field(RATIONAL, struct.pack("<II", min(round(1000 * value), 2**32 - 1), 1000))


def _start(contents: bytes) -> tuple[Layout, int]:
    """How a file is written, and where its first directory begins."""
    order = {b"II": "<", b"MM": ">"}.get(contents[:2])
    if order is None:
        raise ValueError("it does not begin as TIFF")
    (version,) = struct.unpack_from(order + "H", contents, 2)
    if version not in (42, 43):
        raise ValueError("it is no TIFF")
    is_big = version == 43
    (first,) = struct.unpack_from(order + ("Q" if is_big else "I"), contents, 8 if is_big else 4)
    return Layout(order, is_big), first


def _entries(contents: bytes, layout: Layout, place: int) -> tuple[list[Entry], int]:
    """What a directory lists, and where the next one begins; 0 if there is none.

    Values that lie beyond the end have the size 0.
    """
    if place > len(contents):
        raise ValueError("a directory lies beyond the end")
    counts, offsets = ("Q", "Q") if layout.is_big else ("H", "I")
    head, inline = 4 + struct.calcsize("<" + offsets), struct.calcsize("<" + offsets)
    (count,) = struct.unpack_from(layout.order + counts, contents, place)
    if count > MOST_ENTRIES:
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
    """What the directory of EXIF lists, which is below the first one."""
    for entry in entries:
        if entry.tag == EXIF_DIRECTORY and entry.size:
            with suppress(*MALFORMED):
                return _entries(contents, layout, _integer(contents, layout, entry))[0]
    return []


def _integer(contents: bytes, layout: Layout, entry: Entry) -> int:
    code = {2: "H", 4: "I", 8: "Q"}.get(entry.size)
    if code is None:
        raise ValueError(f"tag {entry.tag} is no single integer")
    return int(struct.unpack_from(layout.order + code, contents, entry.start)[0])


def _blank_thumbnails(changed: bytearray, layout: Layout, place: int) -> None:
    """Overwrite thumbnails with zeros; what ends the file is cut off."""
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
            continue  # if each directory had many below it, reading would never end
        if entry.tag in (EXIF_DIRECTORY, GPS_DIRECTORY, INTEROP_DIRECTORY) and parents < 2:
            with suppress(*MALFORMED):
                below = _integer(contents, layout, entry)
                found[entry.tag] = _directory(contents, layout, below, most_bytes, parents + 1)
        elif entry.size:
            most_bytes -= entry.size
            if most_bytes < 0:
                raise ValueError("its values have too many bytes")
            data = contents[entry.start : entry.start + entry.size]
            found[entry.tag] = Field(entry.kind, data if layout.order == "<" else _swapped(data, entry.kind))
    return found


def _swapped(data: bytes, kind: int) -> bytes:
    """Big-endian words as little-endian ones."""
    size = WORD_BYTES[kind]
    return b"".join(data[k : k + size][::-1] for k in range(0, len(data), size)) if size > 1 else data


def _written(directory: Directory, start: int) -> bytes:
    """A little-endian directory, and all that it points to, for that place in a file."""
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
