"""Tags in the directories of TIFF files and of EXIF, which is a TIFF file without pixels (TIFF 6.0, BigTIFF).

Pillow's reader is not used here. It copies all values of a directory, so a small file whose values overlap would fill
the memory, and it refuses TIFF files with several floating-point channels. Here every offset is checked against the end
of the file, and no value is copied.
"""

import struct
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
