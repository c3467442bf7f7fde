"""Headers of image files: size, number of pictures and metadata, read by Pillow before any pixel is decoded.

A few hundred bytes may claim any size, and decoders allocate memory for the claimed size. Files that claim too large a
size are therefore rejected before they are decoded. Files of all other formats are not decoded at all, because nothing
would limit their memory.

Pillow's classes are used without `Image.open`, whose limit on pixels is a global setting of the process.
"""

import re
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import BytesIO
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import IO, Any, NamedTuple

from PIL.BmpImagePlugin import BmpImageFile
from PIL.Image import Exif
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngStream
from PIL.WebPImagePlugin import WebPImageFile

from caflow_deploy.images.tiff_tags import STARTS as TIFF_STARTS
from caflow_deploy.images.tiff_tags import Contents, read_entries, read_start

PNG_START, JPEG_START, GIF_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"GIF8"
PNG_END = b"IEND\xaeB`\x82"
"""Type and checksum of the last chunk of a PNG."""
MULTI_PICTURE = b"MPF\0"
"""Start of the list of pictures in a JPEG, as cameras write it for a preview or a depth map."""
HEIF_SIZE = re.compile(rb"ispe\0...(.{4})(.{4})", re.DOTALL)
"""Property with the size of a picture in an AVIF or HEIC file: a version, three bytes of flags, width and height."""
JPEG_END, START_OF_SCAN, FILL = b"\xff\xd9", b"\xff\xda", b"\xff"
MAX_JPEG_HEADER_BYTES = 2**24
"""Bytes at the start of a JPEG that are read. Pillow reads what is not in a segment byte by byte."""
INCH, CENTIMETRE = 1, 2
"""Units of the resolution in a JPEG."""
MAX_CHUNKS, MAX_CHUNK_BYTES = 2**16, 64
"""Largest number of chunks that are read from a PNG, and size of the largest chunk that is not metadata."""
CHECKSUM_BYTES = 4
PNG_TEXTS = (b"iTXt", b"tEXt", b"zTXt")
PNG_METADATA = (b"eXIf", b"iCCP", b"pHYs", *PNG_TEXTS)
XMP_KEYWORD, RAW_PROFILE, MAX_KEYWORD_BYTES = b"XML:com.adobe.xmp", b"Raw profile type ", 80
"""Keyword of the text that is XMP, and start of the keywords of other metadata. Only XMP is unpacked."""
MAX_REPEATED = 4
"""Largest number of chunks of one kind that are unpacked: a file of 1 MB may contain a thousand, of 1 MB each."""
WIDTH, LENGTH, TILE_WIDTH, TILE_LENGTH = 256, 257, 322, 323
"""TIFF tags."""


class ImageSize(NamedTuple):
    """Size in pixels as stored in the file, before a rotation by EXIF."""

    width: int
    height: int


@dataclass(frozen=True)
class ImageHeader:
    """Header of an image file."""

    size: ImageSize
    pictures: int = 1
    """Number of pictures in the file; for TIFF, at most 2 are counted."""
    info: dict[Any, Any] = field(default_factory=dict)
    """Metadata, by Pillow's names. It is empty for TIFF, AVIF and HEIC files."""
    chunks: dict[bytes, bytes] = field(default_factory=dict)
    """Small chunks of a PNG, such as gAMA. Other chunks of metadata are empty."""
    quantization: tuple[int, ...] = ()
    """Quantization table of a JPEG's first component, which is luminance in nearly all files: 64 integers, row by row.
    It is empty if there is none."""


def read_header(contents: Contents) -> ImageHeader | None:
    """Return the header of a file; None if it is malformed, or the format is not supported.

    For a TIFF that is stored in tiles, the size is at least that of one tile, because decoders allocate whole tiles.
    For AVIF and HEIC files it is the largest size of a picture, tile or thumbnail in the file.
    """
    read = next((read for start, read in READERS.items() if contents[: len(start)] == start), None)
    if is_heif(contents):
        read = _heif
    try:
        header = read(contents) if read else None
    except Exception:  # of any type: Pillow does not document what damaged files raise
        return None
    return header if header and min(header.size) > 0 else None


def is_heif(contents: Contents) -> bool:
    """Return whether a file has the container format of AVIF and HEIC."""
    return contents[4:8] == b"ftyp"


def claimed_size(contents: Contents) -> ImageSize | None:
    """Return the size that the header of an image file claims, or None if it is unknown."""
    header = read_header(contents)
    return header.size if header else None


def size_of_file(path: Path) -> ImageSize | None:
    """Return the size that the header of an image file claims, or None if it is unknown."""
    header = header_of_file(path)
    return header.size if header else None


def header_of_file(path: Path) -> ImageHeader | None:
    """Return the header of an image file; None if it is malformed or cannot be read, or the format is not supported."""
    with suppress(OSError, ValueError):  # no such file, or an empty one
        if path.is_file():  # reading a pipe might never end
            with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as contents:
                return read_header(contents)
    return None


def is_cut_off(contents: bytes) -> bool:
    """Return whether a file is a JPEG without an end.

    OpenCV before version 5 fills the missing part with grey without an error.
    """
    return contents.startswith(JPEG_START) and _scans(contents)[1] < 0


def number_of_scans(contents: bytes) -> int:
    """Return how often a decoder of a JPEG goes through its pixels; 1 for other files."""
    return contents.count(START_OF_SCAN, *_scans(contents)) if contents.startswith(JPEG_START) else 1


def _scans(contents: bytes) -> tuple[int, int]:
    """Return where the scans of a JPEG begin, and where they end; −1 if they have no end.

    Data may follow the end, such as the film of a motion photo; and the header may contain the end of a thumbnail.
    """
    place = len(JPEG_START)
    while contents[place : place + 1] == FILL and contents[place : place + 2] != START_OF_SCAN:
        is_filled = contents[place + 1 : place + 2] == FILL  # any number of these bytes may precede a marker
        place += 1 if is_filled else 2 + max(2, int.from_bytes(contents[place + 2 : place + 4], "big"))
    return place, contents.find(JPEG_END, place)


def holds_several(contents: bytes) -> bool:
    """Return whether a PNG or JPEG is directly followed by another one, as where images are piped one after the other.

    Other data after an image is common. So is a second picture in a JPEG that lists its pictures.
    """
    if contents.startswith(JPEG_START):
        return JPEG_END + JPEG_START + b"\xff" in contents and MULTI_PICTURE not in contents
    return contents.startswith(PNG_START) and PNG_END + PNG_START in contents


class _JpegHeader(JpegImageFile):
    """JPEG file whose EXIF Pillow does not parse: its parser copies overlapping values without a limit."""

    def getexif(self) -> Exif:
        return Exif()


def _with_pillow(image: ImageFile) -> ImageHeader:
    return ImageHeader(ImageSize(*image.size), getattr(image, "n_frames", 1), image.info)


def _file(contents: Contents) -> IO[bytes]:
    return contents if isinstance(contents, mmap) else BytesIO(contents)  # type: ignore[return-value]


def _jpeg(contents: Contents) -> ImageHeader:
    image = _JpegHeader(BytesIO(contents[:MAX_JPEG_HEADER_BYTES]))
    if image.info.get("jfif_unit") not in (INCH, CENTIMETRE):
        image.info.pop("dpi", None)  # Pillow would assume 72
    table = image.quantization.get(image.layer[0][3], ())
    return replace(_with_pillow(image), quantization=tuple(table))


def _png(contents: Contents) -> ImageHeader:
    """Read the chunks of a PNG by Pillow, but skip the pixels, and chunks that are damaged or too large for Pillow."""
    file, chunks, seen = _file(contents), dict[bytes, bytes](), Counter[bytes]()
    file.seek(len(PNG_START))
    stream = PngStream(file)
    with suppress(struct.error, SyntaxError):  # the end of the file
        for _ in range(MAX_CHUNKS):
            kind, place, size = stream.read()
            if kind in PNG_METADATA:
                chunks.setdefault(kind, b"")
                name = contents[place : place + MAX_KEYWORD_BYTES].split(b"\0")[0] if kind in PNG_TEXTS else kind
                if name.startswith(RAW_PROFILE):
                    stream.im_info[name.decode("latin-1")] = ""
                elif seen[name] < MAX_REPEATED and (name == XMP_KEYWORD or kind not in PNG_TEXTS):
                    seen[name] += 1
                    with suppress(OSError, SyntaxError, ValueError, LookupError):
                        stream.call(kind, place, size)
            elif b"IDAT" not in chunks:
                chunks.setdefault(kind, file.read(size) if size <= MAX_CHUNK_BYTES else b"")
            if kind == b"IEND":
                break
            if place + size > len(contents):  # OpenCV would allocate memory for the whole chunk
                raise ValueError("a chunk of the PNG is truncated")
            file.seek(place + size + CHECKSUM_BYTES)
    if next(iter(chunks)) != b"IHDR":
        raise ValueError("the first chunk of a PNG must be IHDR")
    if b"iCCP" in chunks:
        stream.im_info.setdefault("icc_profile", b"")  # Pillow could not read it
    pictures = int.from_bytes(chunks.get(b"acTL", b"")[:4], "big")
    return ImageHeader(ImageSize(*struct.unpack_from(">II", chunks[b"IHDR"])), max(1, pictures), stream.im_info, chunks)


def _tiff(contents: Contents) -> ImageHeader:
    layout, first = read_start(contents)
    entries, following = read_entries(contents, layout, first)
    found = dict.fromkeys((WIDTH, LENGTH, TILE_WIDTH, TILE_LENGTH), 0)
    for entry in entries:
        if entry.tag in found:
            if entry.value is None:
                raise ValueError("a size in a TIFF must be an integer")
            found[entry.tag] = max(found[entry.tag], entry.value)  # decoders differ in which of two entries they use
    width, height = (max(found[side], found[tile]) for side, tile in ((WIDTH, TILE_WIDTH), (LENGTH, TILE_LENGTH)))
    pictures = 1
    with suppress(struct.error, ValueError):
        # A directory without a width contains a thumbnail in the form of EXIF.
        pictures += bool(following) and any(
            entry.tag == WIDTH for entry in read_entries(contents, layout, following)[0]
        )
    return ImageHeader(ImageSize(width, height) if found[WIDTH] and found[LENGTH] else ImageSize(0, 0), pictures)


def _heif(contents: Contents) -> ImageHeader:
    sizes = [[int.from_bytes(side, "big") for side in found.groups()] for found in HEIF_SIZE.finditer(contents)]
    return ImageHeader(ImageSize(*map(max, zip(*sizes, strict=True))))


READERS: dict[bytes, Callable[[Contents], ImageHeader]] = {
    PNG_START: _png,
    JPEG_START: _jpeg,
    b"RIFF": lambda contents: _with_pillow(WebPImageFile(_file(contents))),
    b"BM": lambda contents: _with_pillow(BmpImageFile(_file(contents))),
    **dict.fromkeys(TIFF_STARTS, _tiff),
}
"""Functions that read the header, by the first bytes of a file."""
FORMATS = {
    PNG_START: "png",
    JPEG_START: "jpeg",
    b"RIFF": "webp",
    b"BM": "bmp",
    **dict.fromkeys(TIFF_STARTS, "tiff"),
}
"""Formats that are read and written, by the first bytes of a file."""


def format_of(contents: Contents) -> str | None:
    """Return the format of a file by its name in MIME types, such as "jpeg"; None for all other files."""
    return next((name for start, name in FORMATS.items() if contents[: len(start)] == start), None)
