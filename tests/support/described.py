"""Image metadata for tests: EXIF, XMP, IPTC and a colour profile.

The EXIF is like that of cameras. It is written without the code under test.
"""

import struct
import zlib
from pathlib import Path

from PIL import ImageCms

from caflow_deploy.images.metadata import Metadata

THUMBNAIL = b"\xff\xd8 the old picture \xff\xd9"
MAKER_NOTE = b"MAKER\0 with a place in it: \x01\x02"
ASCII, SHORT, LONG, RATIONAL, UNDEFINED, BYTE = 2, 3, 4, 5, 7, 1

Values = tuple[int, int, bytes]
"""Type of a tag's values, their number, and their bytes."""


def exif_file(order: str = ">", pixels: bytes = b"", more: dict[int, bytes] | None = None) -> bytes:
    """Return the EXIF of a camera, for a picture of 40×30 pixels that must be rotated.

    Arguments:
        order: byte order, > or <.
        pixels: RGB pixels; with them, the result is a complete TIFF file.
        more: further tags, with their values as bytes.
    """

    def shorts(*values: int) -> Values:
        return SHORT, len(values), struct.pack(f"{order}{len(values)}H", *values)

    def longs(*values: int) -> Values:
        return LONG, len(values), struct.pack(f"{order}{len(values)}I", *values)

    def rationals(*values: int) -> Values:
        return RATIONAL, len(values) // 2, struct.pack(f"{order}{len(values)}I", *values)

    def text(value: bytes) -> Values:
        return ASCII, len(value) + 1, value + b"\0"

    first = {
        270: text(b"a cat"),
        271: text(b"Maker"),
        274: shorts(6),
        282: rationals(300, 1),
        283: rationals(300, 1),
        296: shorts(2),
        306: text(b"2026:01:02 03:04:05"),
        33432: text(b"CC0"),
    }
    first |= {tag: (UNDEFINED, len(value), value) for tag, value in (more or {}).items()}
    if pixels:
        first |= {256: shorts(40), 257: shorts(30), 258: shorts(8, 8, 8), 259: shorts(1), 262: shorts(2)}
        first |= {273: longs(8), 277: shorts(3), 278: shorts(30), 279: longs(len(pixels))}
    exif = {
        0x829A: rationals(1, 250),
        0x9000: (UNDEFINED, 4, b"0232"),
        0x9003: text(b"2026:01:02 03:04:05"),
        0x927C: (UNDEFINED, len(MAKER_NOTE), MAKER_NOTE),
        0xA002: shorts(40),
        0xA003: shorts(30),
    }
    gps = {0: (BYTE, 4, b"\2\3\0\0"), 1: text(b"N"), 2: rationals(47, 1, 22, 1, 1234, 100)}
    start = 8 + len(pixels)
    # Directories contain the offsets of later directories. Sizes do not depend on offsets, so 0 is used first.
    size = len(directory(order, first | {0x8769: longs(0), 0x8825: longs(0)}, start, 0))
    exif_at = start + size
    gps_at = exif_at + len(directory(order, exif, exif_at, 0))
    last_at = gps_at + len(directory(order, gps, gps_at, 0))
    last = {259: shorts(6), 513: longs(0), 514: longs(len(THUMBNAIL))}
    thumbnail_at = last_at + len(directory(order, last, last_at, 0))
    return b"".join(
        [
            (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start) + pixels,
            directory(order, first | {0x8769: longs(exif_at), 0x8825: longs(gps_at)}, start, 0 if pixels else last_at),
            directory(order, exif, exif_at, 0),
            directory(order, gps, gps_at, 0),
            directory(order, last | {513: longs(thumbnail_at)}, last_at, 0),
            THUMBNAIL,
        ]
    )


def directory(order: str, fields: dict[int, Values], start: int, following: int) -> bytes:
    """Return a directory and its values as bytes.

    Arguments:
        start: offset of the directory in the file.
        following: offset of the next directory; 0 if there is none.
    """
    entries, data = b"", b""
    at = start + 2 + 12 * len(fields) + 4
    for tag, (kind, count, value) in sorted(fields.items()):
        inline = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(order + "I", at + len(data))
        entries += struct.pack(order + "HHI", tag, kind, count) + inline
        data += (value + bytes(len(value) % 2)) if len(value) > 4 else b""
    return struct.pack(order + "H", len(fields)) + entries + struct.pack(order + "I", following) + data


def png_chunk(kind: bytes, contents: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", zlib.crc32(kind + contents))


def insert_png_chunks(path: Path, chunks: dict[bytes, bytes]) -> None:
    """Insert chunks into a PNG file, after its header."""
    contents = path.read_bytes()
    path.write_bytes(contents[:33] + b"".join(map(png_chunk, chunks, chunks.values())) + contents[33:])


def nested_exif(order: str, count: int = 4000) -> bytes:
    """Return EXIF of 64 kB whose directories contain each other, and with `count` values that overlap.

    Arguments:
        order: byte order, > or <.
    """
    entries = [struct.pack(order + "HHII", tag, LONG, 1, 8) for tag in (0x8769, 0x8825, 0xA005)]
    entries += [struct.pack(order + "HHII", tag, SHORT, 30_000, 8) for tag in range(0x9000, 0x9000 + count)]
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    return (start + b"".join(entries)).ljust(65_000, b"\0")


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/" '
    b'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    b'tiff:Orientation="6" exif:PixelXDimension="40" xmp:Rating="4"><exif:PixelYDimension>30</exif:PixelYDimension>'
    b"<dc:subject><rdf:Bag><rdf:li>cat</rdf:li></rdf:Bag></dc:subject>"
    b"<xmp:Thumbnails><rdf:Alt><rdf:li>old</rdf:li></rdf:Alt></xmp:Thumbnails>"
    b'</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
IPTC = b"\x1c\x02\x00\x00\x02\x00\x04\x1c\x02\x19\x00\x03cat\x1c\x02\x78\x00\x05a cat"
ALL = Metadata(PROFILE, exif_file(), XMP, IPTC, (300, 300))
