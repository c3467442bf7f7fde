"""Metadata of image files: read from a file's bytes, and inserted into the bytes that an encoder returned.

The code for WebP (RFC 9649), TIFF 6.0 and BMP is in this file; PNG and JPEG have their own modules. Pixels are never
changed.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace

from caflow_runtime.image_formats import JPEG_START, PNG_START, claimed_size
from caflow_runtime.image_io import jpeg_segments, tags
from caflow_runtime.image_io.jpeg_segments import read_jpeg, write_jpeg
from caflow_runtime.image_io.metadata import CM_PER_M, Metadata, Resolution, checked, is_profile_of
from caflow_runtime.image_io.png_chunks import read_png, write_png
from caflow_runtime.image_io.tags import EXIF_START, MALFORMED, Directory, Field, first_directory

INCHES, CENTIMETRES = 2, 3
"""Values of the TIFF tag ResolutionUnit."""
MAX_CHUNKS = 2**16
"""Largest number of chunks that are read from a WebP file."""
WITH_PROFILE, WITH_ALPHA, WITH_EXIF, WITH_XMP = 0x20, 0x10, 0x08, 0x04
"""Flags of the VP8X chunk in a WebP file."""
BMP_RESOLUTION, BMP_HEADER_BYTES = 38, 40
"""Offset of the resolution in a BMP file, and size of the smallest header that contains it."""
NAMES = {"profile": "colour profile", "exif": "EXIF", "xmp": "XMP", "iptc": "IPTC", "png_colours": "colour space"}


def read_metadata(contents: bytes) -> tuple[Metadata, list[str]]:
    """Return the metadata of an image file, and messages about malformed parts.

    Metadata is read from PNG, JPEG, WebP, TIFF and BMP files. For other files it is empty.
    """
    read = next((read for start, read in READERS.items() if contents.startswith(start)), None)
    if read is None:
        return Metadata(), []
    try:
        found, wrong = checked(read(contents))
    except MALFORMED as error:
        return Metadata(), [f"its metadata is malformed and was not copied: {error}"]
    if found.resolution is None and found.exif is not None:
        found = replace(found, resolution=_tiff_resolution(first_directory(found.exif)))
    return found, wrong


def with_metadata(contents: bytes, metadata: Metadata, is_grey: bool) -> tuple[bytes, list[str]]:
    """Return an image file with metadata, and messages about metadata that could not be stored.

    Arguments:
        contents: encoded PNG, JPEG, WebP, TIFF or BMP file without metadata.
        metadata: metadata of the source image.
        is_grey: whether the encoded file has a single channel.
    """
    start, size = next(start for start in WRITERS if contents.startswith(start)), claimed_size(contents)
    assert size is not None
    metadata, malformed = checked(metadata)
    metadata, left_out = _fitting(metadata.for_result(*size), is_grey, start)
    return WRITERS[start](contents, metadata), [*malformed, *left_out]


def _fitting(metadata: Metadata, is_grey: bool, start: bytes) -> tuple[Metadata, list[str]]:
    """Return the metadata that the file can store, and messages about the rest. `start` identifies the format."""
    kept, wrong = metadata, []
    if metadata.profile is not None and not is_profile_of(metadata.profile, is_grey):
        kept = replace(kept, profile=None)
        wrong.append(f"its colour profile was not copied: it is not for {'grey' if is_grey else 'colour'} images")
    for name, most in LIMITS[start].items():
        value = getattr(kept, name)
        if value is not None and len(value) > most:
            kept = replace(kept, **{name: None})
            wrong.append(
                f"its {NAMES[name]} was not copied: it is {'too large for' if most else 'not supported by'} the "
                "result's format"
            )
    return kept, wrong


def _read_webp(contents: bytes) -> Metadata:
    found = dict(_webp_chunks(contents))
    exif = found.get(b"EXIF")
    return Metadata(found.get(b"ICCP"), None if exif is None else exif.removeprefix(EXIF_START), found.get(b"XMP "))


def _webp_chunks(contents: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 12
    for _ in range(MAX_CHUNKS):
        if place + 8 > len(contents):
            return
        kind, size = struct.unpack_from("<4sI", contents, place)
        yield kind, contents[place + 8 : place + 8 + size]
        place += 8 + size + size % 2


def _write_webp(contents: bytes, metadata: Metadata) -> bytes:
    exif = metadata.exif
    if exif is None and metadata.resolution is not None:  # WebP can store the resolution only in EXIF.
        exif = tags.exif_of(_resolution_fields(metadata.resolution))
    if metadata.profile is exif is metadata.xmp is None:
        return contents
    chunks = [(kind, data) for kind, data in _webp_chunks(contents) if kind != b"VP8X"]
    flags = WITH_ALPHA if _has_alpha(contents) else 0
    if metadata.profile is not None:
        chunks.insert(0, (b"ICCP", metadata.profile))
        flags |= WITH_PROFILE
    if exif is not None:
        chunks.append((b"EXIF", exif))
        flags |= WITH_EXIF
    if metadata.xmp is not None:
        chunks.append((b"XMP ", metadata.xmp))
        flags |= WITH_XMP
    size = claimed_size(contents)
    assert size is not None
    sides = b"".join((side - 1).to_bytes(3, "little") for side in size)
    chunks.insert(0, (b"VP8X", bytes([flags, 0, 0, 0]) + sides))
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _has_alpha(webp: bytes) -> bool:
    """Return whether a WebP file has alpha, according to its first chunk."""
    if webp[12:16] == b"VP8X":
        return bool(webp[20] & WITH_ALPHA)
    return webp[12:16] == b"VP8L" and bool(webp[24] & WITH_ALPHA)


def _read_tiff(contents: bytes) -> Metadata:
    found = first_directory(contents)
    own = [found.pop(tag, None) for tag in (tags.PROFILE, tags.XMP, tags.IPTC)]
    profile, xmp, iptc = (field.data if isinstance(field, Field) else None for field in own)
    return Metadata(profile, tags.exif_of(found) if found else None, xmp, iptc, _tiff_resolution(found))


def _tiff_resolution(directory: Directory) -> Resolution | None:
    unit = tags.number(directory.get(tags.RESOLUTION_UNIT)) or INCHES
    x, y = (tags.number(directory.get(tag)) for tag in (tags.X_RESOLUTION, tags.Y_RESOLUTION))
    return Resolution(x, y, unit == CENTIMETRES) if x > 0 < y and unit in (INCHES, CENTIMETRES) else None


def _resolution_fields(resolution: Resolution) -> Directory:
    unit = CENTIMETRES if resolution.per_cm else INCHES
    return {
        tags.X_RESOLUTION: tags.rational(resolution.x),
        tags.Y_RESOLUTION: tags.rational(resolution.y),
        tags.RESOLUTION_UNIT: Field(tags.SHORT, struct.pack("<H", unit)),
    }


def _write_tiff(contents: bytes, metadata: Metadata) -> bytes:
    fields = {} if metadata.resolution is None else _resolution_fields(metadata.resolution)
    if metadata.exif is not None:
        fields |= first_directory(metadata.exif)  # The resolution in EXIF is exact, so it takes precedence.
    if metadata.xmp is not None:
        fields[tags.XMP] = Field(tags.BYTE, metadata.xmp)
    for tag, value in ((tags.IPTC, metadata.iptc), (tags.PROFILE, metadata.profile)):
        if value is not None:
            fields[tag] = Field(tags.UNDEFINED, value)
    return tags.with_fields(contents, fields) if fields else contents


def _read_bmp(contents: bytes) -> Metadata:
    (header_bytes,) = struct.unpack_from("<I", contents, 14)
    if header_bytes < BMP_HEADER_BYTES:
        return Metadata()
    x, y = struct.unpack_from("<ii", contents, BMP_RESOLUTION)
    return Metadata(resolution=Resolution(x / CM_PER_M, y / CM_PER_M, True) if x > 0 < y else None)


def _write_bmp(contents: bytes, metadata: Metadata) -> bytes:
    if metadata.resolution is None:
        return contents
    sides = (min(round(side), 2**31 - 1) for side in metadata.resolution.per(CM_PER_M))
    return contents[:BMP_RESOLUTION] + struct.pack("<ii", *sides) + contents[BMP_RESOLUTION + 8 :]


RIFF, BMP, TIFFS = b"RIFF", b"BM", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
READERS: dict[bytes, Callable[[bytes], Metadata]] = {
    PNG_START: read_png,
    JPEG_START: read_jpeg,
    RIFF: _read_webp,
    BMP: _read_bmp,
    **dict.fromkeys(TIFFS, _read_tiff),
}
"""Functions that read metadata, by the first bytes of the file."""
WRITERS: dict[bytes, Callable[[bytes, Metadata], bytes]] = {
    PNG_START: write_png,
    JPEG_START: write_jpeg,
    RIFF: _write_webp,
    BMP: _write_bmp,
    TIFFS[0]: _write_tiff,
}
LIMITS: dict[bytes, dict[str, int]] = {
    PNG_START: {},
    JPEG_START: jpeg_segments.LIMITS | {"png_colours": 0},
    RIFF: {"iptc": 0, "png_colours": 0},
    BMP: {"profile": 0, "exif": 0, "xmp": 0, "iptc": 0, "png_colours": 0},
    TIFFS[0]: {"png_colours": 0},
}
"""Largest size in bytes of each kind of metadata, by the first bytes of the file. 0 means not supported; kinds that are
not listed are unlimited."""
