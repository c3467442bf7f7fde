"""Metadata of PNG files: eXIf, iCCP, pHYs, XMP in iTXt (W3C, third edition), IPTC as in ImageMagick and exiv2.

The chunks that name a colour space without a profile are in `png_colours.py`.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from caflow_runtime.image_formats import PNG_START
from caflow_runtime.image_io.metadata import CM_PER_M, IPTC_MARKER, Metadata, Resolution
from caflow_runtime.image_io.photoshop import iptc_of, iptc_resource
from caflow_runtime.image_io.png_colours import colours_of, png_chunk
from caflow_runtime.image_io.tags import EXIF_START, MALFORMED

XMP_KEYWORD, IPTC_KEYWORD = b"XML:com.adobe.xmp", b"Raw profile type iptc"
EXIF_KEYWORDS = (b"Raw profile type exif", b"Raw profile type APP1")
"""Text keywords under which programs stored EXIF before PNG had a chunk for it."""
MAX_CHUNKS, MAX_BYTES = 2**16, 2**24
"""Largest number of chunks that are read, and largest size of a decompressed text."""
GREY = 0
"""Colour type of grey images without alpha, in IHDR."""
HEADER_BYTES, LINE_BYTES = 25, 36
"""Size of the IHDR chunk, and bytes per line of hexadecimal digits."""


def read_png(contents: bytes) -> Metadata:
    """Return the metadata of a PNG file. Malformed chunks are skipped."""
    found, chunks = Metadata(), [*_png_chunks(contents)]
    for kind, data in chunks:
        with suppress(*MALFORMED, zlib.error):
            found = _with_png_chunk(found, kind, data)
    return replace(found, png_colours=colours_of(dict(chunks)))


def transparent_grey(contents: bytes) -> int | None:
    """Return the value of the transparent pixels of a grey PNG, as decoded to 8 or 16 bits; None without such a value.

    For PNG files with colours the decoder finds these pixels itself.
    """
    chunks = dict(_png_chunks(contents)) if contents.startswith(PNG_START) else {}
    header, value = chunks.get(b"IHDR", b""), chunks.get(b"tRNS", b"")
    if len(header) != HEADER_BYTES - 12 or header[9] != GREY or len(value) != 2:
        return None
    largest = (1 << header[8]) - 1
    found = int.from_bytes(value, "big") & largest
    return found * 255 // largest if largest < 255 else found


def _with_png_chunk(found: Metadata, kind: bytes, data: bytes) -> Metadata:
    if kind == b"eXIf":
        return replace(found, exif=data)
    if kind == b"iCCP":
        return replace(found, profile=_inflated(data.partition(b"\0")[2][1:]))
    if kind == b"pHYs":
        x, y, unit = struct.unpack(">IIB", data)
        return replace(found, resolution=Resolution(x / CM_PER_M, y / CM_PER_M, True) if unit == 1 else None)
    if kind not in (b"iTXt", b"zTXt", b"tEXt"):
        return found
    keyword, _, text = data.partition(b"\0")
    if keyword == XMP_KEYWORD and kind == b"iTXt":
        is_compressed, body = text[:1] == b"\1", text[2:].split(b"\0", 2)[2:]
        return replace(found, xmp=_inflated(body[0]) if is_compressed else body[0]) if body else found
    if keyword in (*EXIF_KEYWORDS, IPTC_KEYWORD) and kind != b"iTXt":
        profile = _raw_profile(_inflated(text[1:]) if kind == b"zTXt" else text)
        if keyword == IPTC_KEYWORD:
            return replace(found, iptc=profile if profile[:1] == IPTC_MARKER else iptc_of(profile))
        return replace(found, exif=profile.removeprefix(EXIF_START)) if profile.startswith(EXIF_START) else found
    return found


def _png_chunks(contents: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(PNG_START)
    for _ in range(MAX_CHUNKS):
        if place + 12 > len(contents):
            return
        size, kind = struct.unpack_from(">I4s", contents, place)
        if kind != b"IDAT":
            yield kind, contents[place + 8 : place + 8 + size]
        place += 12 + size


def _inflated(data: bytes) -> bytes:
    """Return decompressed data. Data larger than `MAX_BYTES`, such as a decompression bomb, is refused."""
    stream = zlib.decompressobj()
    found = stream.decompress(data, MAX_BYTES)
    if not stream.eof:
        raise ValueError("a compressed text is truncated or too long")
    return found


def _raw_profile(text: bytes) -> bytes:
    """Decode a raw profile: a line break, a name, the number of bytes, and the bytes in hexadecimal digits."""
    _, _, size, digits = text.split(b"\n", 3)
    found = bytes.fromhex(digits.decode("ascii"))
    if len(found) != int(size):
        raise ValueError("a profile is truncated")
    return found


def write_png(contents: bytes, metadata: Metadata) -> bytes:
    """Return a PNG file with metadata."""
    chunks = [metadata.png_colours or b""]
    if metadata.profile is not None:
        chunks.append(png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.profile)))
    if metadata.resolution is not None:
        sides = (round(side) for side in metadata.resolution.per(CM_PER_M))
        chunks.append(png_chunk(b"pHYs", struct.pack(">IIB", *sides, 1)))
    if metadata.exif is not None:
        chunks.append(png_chunk(b"eXIf", metadata.exif))
    if metadata.xmp is not None:
        chunks.append(png_chunk(b"iTXt", XMP_KEYWORD + bytes(5) + metadata.xmp))
    if metadata.iptc is not None:
        block = iptc_resource(metadata.iptc)
        lines = [block[k : k + LINE_BYTES].hex().encode() for k in range(0, len(block), LINE_BYTES)]
        text = b"\niptc\n" + b"%8d\n" % len(block) + b"\n".join(lines) + b"\n"
        chunks.append(png_chunk(b"zTXt", IPTC_KEYWORD + b"\0\0" + zlib.compress(text)))
    place = len(PNG_START) + HEADER_BYTES  # after IHDR, the first chunk
    return contents[:place] + b"".join(chunks) + contents[place:]
