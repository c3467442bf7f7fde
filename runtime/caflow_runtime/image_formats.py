"""Properties of image files that are known without decoding: format, claimed size, and whether the file is truncated.

A few hundred bytes may claim any size, and decoders allocate memory for the claimed size. Files that claim too large a
size are therefore rejected before they are decoded. Files of all other formats are not decoded at all, because nothing
would limit their memory. Supported formats: PNG (W3C), JPEG (ITU-T T.81), WebP (RFC 9649), TIFF 6.0 and BigTIFF, BMP.
"""

import os
import re
import struct
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple, NoReturn

Contents = bytes | mmap
"""Contents of a file."""
SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
READ_ONLY = {".avif", ".heic", ".heif"}
"""Suffixes of files that `image_io/heif.py` reads if the required packages are installed."""
READABLE = SUFFIXES | READ_ONLY
VIDEO_SUFFIXES = {".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"}
"""Suffixes of videos, which are refused where images are expected."""
MAX_IMAGE_PIXELS = 2**28
"""Default maximum number of pixels that an image file may claim: 268 megapixels. Reading requires 6 to 40 bytes per
pixel."""
PNG_START = b"\x89PNG\r\n\x1a\n"
GIF_START = b"GIF8"
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
JPEG_TRAILER_BYTES = 4096  # some cameras write data after the end of the image, and pad the file with zeros
MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
MAX_SEGMENTS = 2**16
"""Maximum number of segments before the size of a JPEG. Segments may be empty, so a file full of them would take long
to read."""
FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
"""JPEG markers of segments that contain the size of the image."""
WITHOUT_SEGMENT = {0x01, *range(0xD0, 0xD8)}
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
WIDTH, LENGTH, TILE_WIDTH, TILE_LENGTH = 256, 257, 322, 323
"""TIFF tags."""
INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""TIFF integer types, with their format characters of `struct`."""
CORE_HEADER_BYTES = 12
"""Header length of OS/2 bitmaps, whose sizes have 16 bits."""


class ImageSize(NamedTuple):
    """Size in pixels as stored in the file, before a rotation by EXIF."""

    width: int
    height: int


def throw(error: OSError) -> NoReturn:
    """Raise an error. As `on_error`, it ends a search at the first folder that cannot be read."""
    raise error


def images_below(
    folder: Path, suffixes: Collection[str] = SUFFIXES, on_error: Callable[[OSError], object] = throw
) -> list[Path]:
    """Return the sorted paths of the image files in a folder and its subfolders, by their suffixes.

    Links to folders are not followed.

    Arguments:
        on_error: called with the error of each folder that cannot be read; by default, it raises the error.
    """
    files = [Path(place) / name for place, _, names in os.walk(folder, onerror=on_error) for name in names]
    return sorted(file for file in files if file.suffix.lower() in suffixes and _may_be_file(file))


def partners(names: Iterable[str], others: Collection[str]) -> dict[str, list[str]]:
    """Return, for each of the image files `names`, those of the files `others` that can form a pair with it.

    This is the file with the same name. If there is none, these are all files whose names differ in the suffix alone.
    """
    by_stem = defaultdict(list)
    for other in sorted(others):
        by_stem[Path(other).with_suffix("")].append(other)
    return {name: [name] if name in others else by_stem.get(Path(name).with_suffix(""), []) for name in names}


def _may_be_file(path: Path) -> bool:
    """Return whether a path is a file, or cannot be looked at; the error of reading it then says why."""
    try:
        return path.is_file()
    except OSError:
        return True


def is_cut_off(contents: bytes) -> bool:
    """Return whether a file is a truncated JPEG.

    OpenCV before version 5 fills the missing part with grey without an error.
    """
    return contents.startswith(JPEG_START) and JPEG_END not in contents.rstrip(b"\0")[-JPEG_TRAILER_BYTES:]


def size_of_file(path: Path) -> ImageSize | None:
    """Return the size that an image file claims, or None if it is unknown. Little more than the header is read."""
    try:
        if not path.is_file():  # reading a pipe might never end
            return None
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as contents:
            return claimed_size(contents)
    except (OSError, ValueError):  # no such file, or an empty one
        return None


def claimed_size(contents: Contents) -> ImageSize | None:
    """Return the size that a PNG, JPEG, WebP, TIFF or BMP file claims, or None for other formats and truncated headers.

    For a TIFF that is stored in tiles, this is at least the size of one tile, because decoders allocate whole tiles.
    """
    for start, read in READERS.items():
        if contents[: len(start)] == start:
            try:
                return read(contents)
            except (struct.error, ValueError):
                return None
    return None


def _png(contents: Contents) -> ImageSize:
    chunk, width, height = struct.unpack_from(">4sII", contents, 12)
    if chunk != b"IHDR":
        raise ValueError("the first chunk of a PNG must be IHDR")
    return ImageSize(width, height)


def _jpeg(contents: Contents) -> ImageSize:
    place = len(JPEG_START)
    for _ in range(MAX_SEGMENTS):
        found = MARKER.search(contents, place)  # decoders skip data between segments
        if found is None or found[1][0] in (START_OF_SCAN, END_OF_IMAGE):
            break
        marker, place = found[1][0], found.end()
        if marker in FRAMES:
            height, width = struct.unpack_from(">HH", contents, place + 3)
            return ImageSize(width, height)
        if marker not in WITHOUT_SEGMENT:
            (length,) = struct.unpack_from(">H", contents, place)
            place += max(2, length)
    raise ValueError("a JPEG must contain a frame header")


def _webp(contents: Contents) -> ImageSize:
    kind, chunk = struct.unpack_from("<4s4s", contents, 8)
    if kind != b"WEBP":
        raise ValueError("the RIFF file is not a WebP")
    data = 20
    if chunk == b"VP8X":
        both = int.from_bytes(_bytes(contents, data + 4, 6), "little")
        return ImageSize(1 + (both & 0xFFFFFF), 1 + (both >> 24))
    if chunk == b"VP8L":
        (both,) = struct.unpack_from("<I", contents, data + 1)
        return ImageSize(1 + (both & 0x3FFF), 1 + (both >> 14 & 0x3FFF))
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", contents, data + 6)
        return ImageSize(width & 0x3FFF, height & 0x3FFF)
    raise ValueError("the first chunk of a WebP must be VP8X, VP8L or VP8")


def _bmp(contents: Contents) -> ImageSize:
    (header_bytes,) = struct.unpack_from("<I", contents, 14)
    width, height = struct.unpack_from("<HH" if header_bytes == CORE_HEADER_BYTES else "<ii", contents, 18)
    return ImageSize(abs(width), abs(height))  # a negative height means that rows are stored from top to bottom


def _tiff(contents: Contents) -> ImageSize:
    found = dict.fromkeys((WIDTH, LENGTH, TILE_WIDTH, TILE_LENGTH), 0)
    for tag, value in _tiff_entries(contents):
        found[tag] = max(found[tag], value)  # decoders differ in which of two entries with one tag they use
    if not (found[WIDTH] and found[LENGTH]):
        raise ValueError("a TIFF must have a width and a length")
    return ImageSize(max(found[WIDTH], found[TILE_WIDTH]), max(found[LENGTH], found[TILE_LENGTH]))


def _tiff_entries(contents: Contents) -> Iterator[tuple[int, int]]:
    """Yield the sizes in the first directory, as pairs of tag and value."""
    order = "<" if contents[:2] == b"II" else ">"
    is_big = contents[2:4] in (b"+\0", b"\0+")
    offset, count, entry = ("Q", "Q", "HHQ8s") if is_big else ("I", "H", "HHI4s")
    (place,) = struct.unpack_from(order + offset, contents, 8 if is_big else 4)
    if place > len(contents):
        raise ValueError("the TIFF directory is beyond the end of the file")
    (entries,) = struct.unpack_from(order + count, contents, place)
    place += struct.calcsize(order + count)
    size = struct.calcsize(order + entry)
    for k in range(min(entries, len(contents) // size)):
        tag, kind, values, value = struct.unpack_from(order + entry, contents, place + k * size)
        if tag not in (WIDTH, LENGTH, TILE_WIDTH, TILE_LENGTH):
            continue
        if kind not in INTEGERS or values != 1:
            raise ValueError("a TIFF size field must contain exactly one integer")
        yield tag, struct.unpack_from(order + INTEGERS[kind], value)[0]


def _bytes(contents: Contents, start: int, count: int) -> bytes:
    """Return exactly `count` bytes."""
    found = contents[start : start + count]
    if len(found) < count:
        raise ValueError("the file is truncated")
    return found


READERS: dict[bytes, Callable[[Contents], ImageSize]] = {
    PNG_START: _png,
    JPEG_START: _jpeg,
    b"RIFF": _webp,
    b"BM": _bmp,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
    b"II+\0": _tiff,
    b"MM\0+": _tiff,
}
"""Functions that read the claimed size, by the first bytes of a file."""
