"""Metadata in image files: read from headers, and written with the pixels. Pillow does both, except for TIFF."""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from typing import Any

import cv2
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from caflow_deploy.images import tiff_tags as tags
from caflow_deploy.images.image_headers import ImageHeader
from caflow_deploy.images.metadata import Metadata, checked, is_profile_of
from caflow_deploy.images.tiff_tags import MALFORMED, dpi_of
from caflow_deploy.images.tiff_tags import STARTS as TIFF_STARTS

EXIF_START = b"Exif\0\0"
"""Header before EXIF in JPEG and in some other files."""
XMP_KEYWORD, RAW_PROFILE = "XML:com.adobe.xmp", "Raw profile type"
OF_TIFF = "of a TIFF file, only the resolution, the colour profile and XMP are copied"
OF_PNG = "of a PNG file, EXIF is copied from its own chunk only"
PHOTOSHOP_START, IPTC_RESOURCE = b"Photoshop 3.0\0", 0x0404
IPTC_RESOURCE_START = b"8BIM" + IPTC_RESOURCE.to_bytes(2, "big") + bytes(2)
"""Start of the Photoshop resource that contains IPTC, without a name. The size follows."""
PNG_HEADER_BYTES = 33
"""Size of the signature of a PNG and of its first chunk."""
FORMATS = {
    ".bmp": "BMP", ".jpeg": "JPEG", ".jpg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP"
}  # fmt: skip
"""Pillow's names of formats, by the suffixes of files."""
MAX_SEGMENT_BYTES, MAX_JPEG_DPI = 65533, 65535
LIMITS: dict[str, dict[str, int]] = {
    "PNG": {"iptc": 0},
    "JPEG": {
        "profile": 255 * (MAX_SEGMENT_BYTES - 14),
        "exif": MAX_SEGMENT_BYTES - len(EXIF_START),
        "xmp": MAX_SEGMENT_BYTES - 29,
        "iptc": MAX_SEGMENT_BYTES - len(PHOTOSHOP_START) - 13,
        "png_colours": 0,
    },
    "WEBP": {"iptc": 0, "png_colours": 0},
    "BMP": {"profile": 0, "exif": 0, "xmp": 0, "iptc": 0, "png_colours": 0},
    "TIFF": {"exif": 0, "iptc": 0, "png_colours": 0},
}
"""Largest size in bytes of each kind of metadata, by format. 0 means not supported; others are unlimited."""
NAMES = {"profile": "colour profile", "exif": "EXIF", "xmp": "XMP", "iptc": "IPTC", "png_colours": "colour space"}
COLOUR_CHUNK_BYTES = {b"gAMA": 4, b"cHRM": 32, b"cICP": 4}
"""Sizes of the chunks that name a colour space."""
SRGB_GAMMA, GAMMA_TOLERANCE = 45455, 100
"""Value of gAMA for sRGB, and the largest difference of other usual roundings of 1/2.2."""
SRGB_CORNERS, CORNER_TOLERANCE = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000), 100
"""Values of cHRM for sRGB: white, red, green and blue."""
UNSPECIFIED = 2
SRGB_PRIMARIES, SRGB_CURVES = {1, UNSPECIFIED}, {1, UNSPECIFIED, 6, 13, 14, 15}
"""Codes of ITU-T H.273 for the primaries of BT.709 and sRGB; and for the transfer functions of sRGB, and of BT.709,
which still images are shown with as if it were that of sRGB."""
FULL_RANGE = 1


def read_metadata(contents: bytes, header: ImageHeader) -> tuple[Metadata, list[str]]:
    """Return the metadata of an image file that results can keep, and messages about the rest."""
    try:
        found, wrong = _of_tiff(contents) if contents.startswith(TIFF_STARTS) else _of_info(header)
        found, malformed = checked(found)
        if found.dpi is None and found.exif is not None:
            found = replace(found, dpi=dpi_of(found.exif))
    except MALFORMED as error:
        return Metadata(), [f"its metadata is malformed and was not copied: {error}"]
    return found, [*wrong, *malformed]


def _of_tiff(contents: bytes) -> tuple[Metadata, list[str]]:
    """Return the metadata of a TIFF file. Its EXIF and IPTC are not copied."""
    entries = tags.entries_of(contents)
    profile, xmp = (
        contents[entries[tag].start : entries[tag].start + entries[tag].size] if tag in entries else None
        for tag in (tags.PROFILE, tags.XMP)
    )
    lost = {"EXIF": tags.DESCRIPTIVE, "IPTC": {tags.IPTC}}
    wrong = [f"its {name} was not copied: {OF_TIFF}" for name, own in lost.items() if entries.keys() & own]
    return Metadata(profile, None, xmp, None, dpi_of(contents)), wrong


def _of_info(header: ImageHeader) -> tuple[Metadata, list[str]]:
    """Return metadata by Pillow's names."""
    info = header.info
    profile = info.get("icc_profile") or b"" if "icc_profile" in info else None  # None: malformed
    exif, iptc = info.get("exif"), info.get("photoshop", {}).get(IPTC_RESOURCE)
    wrong = [f"its {key} was not copied: {OF_PNG}" for key in info if str(key).startswith(RAW_PROFILE)]
    exif = None if exif is None else exif.removeprefix(EXIF_START)
    return Metadata(profile, exif, info.get("xmp"), iptc, info.get("dpi"), colours_of(header.chunks)), wrong


def encode(suffix: str, pixels: NDArray[Any], metadata: Metadata, quality: int) -> tuple[bytes, list[str]]:
    """Encode an image with metadata.

    Arguments:
        suffix: suffix of the file's name, which selects the format.
        pixels: grey (H, W), RGB or RGBA (H, W, C), uint8; for PNG and TIFF also uint16.
        metadata: metadata of the source image.
        quality: 1…100, for JPEG and WebP. A WebP file of quality 100 is lossless.

    Returns:
        The contents of the file, and messages about metadata that it cannot store.

    Raises:
        cv2.error, OSError, ValueError: if the image cannot be encoded.
    """
    kind, (height, width) = FORMATS[suffix], pixels.shape[:2]
    metadata, wrong = checked(metadata)
    fitting, left_out = _fitting(metadata.for_result(width, height), pixels.ndim == 2 and kind != "WEBP", kind)
    if kind in ("PNG", "TIFF"):  # by OpenCV, because Pillow cannot encode colours of 16 bits
        if pixels.ndim == 3:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
        _, encoded = cv2.imencode(suffix, pixels)
        contents = encoded.tobytes()
        return (_with_png_metadata if kind == "PNG" else _with_tiff_metadata)(contents, fitting), [*wrong, *left_out]
    options: dict[str, Any] = {"quality": quality} if kind == "JPEG" or quality < 100 else {"lossless": True}
    return _saved(Image.fromarray(pixels), kind, fitting, **options), [*wrong, *left_out]


def _fitting(metadata: Metadata, is_grey: bool, kind: str) -> tuple[Metadata, list[str]]:
    """Return the metadata that a format can store, and messages about the rest."""
    kept, wrong = metadata, []
    if metadata.profile is not None and not is_profile_of(metadata.profile, is_grey):
        kept = replace(kept, profile=None)
        wrong.append(f"its colour profile was not copied: it is not for {'grey' if is_grey else 'colour'} images")
    for name, most in LIMITS[kind].items():
        value = getattr(kept, name)
        if value is not None and len(value) > most:
            kept = replace(kept, **{name: None})
            wrong.append(
                f"its {NAMES[name]} was not copied: it is {'too large for' if most else 'not supported by'} the "
                "result's format"
            )
    return kept, wrong


def _saved(image: Image.Image, kind: str, metadata: Metadata, **options: Any) -> bytes:
    """Return an image file that Pillow encodes, with the metadata that the format supports."""
    options |= {"icc_profile": metadata.profile, "exif": metadata.exif, "xmp": metadata.xmp, "dpi": metadata.dpi}
    if kind == "WEBP" and metadata.exif is None and metadata.dpi is not None:
        options["exif"] = _resolution_exif(metadata.dpi)
    if kind == "JPEG":
        options["exif"] = metadata.exif and EXIF_START + metadata.exif
        options["dpi"] = metadata.dpi and [min(max(side, 1), MAX_JPEG_DPI) for side in metadata.dpi]
        if metadata.iptc is not None:
            iptc = struct.pack(">I", len(metadata.iptc)) + metadata.iptc + bytes(len(metadata.iptc) % 2)
            data = PHOTOSHOP_START + IPTC_RESOURCE_START + iptc
            options["extra"] = b"\xff\xed" + struct.pack(">H", len(data) + 2) + data
    file = BytesIO()
    image.save(file, kind, **{name: value for name, value in options.items() if value is not None})
    return file.getvalue()


def _with_png_metadata(contents: bytes, metadata: Metadata) -> bytes:
    """Return a PNG file with metadata: the chunks that Pillow writes for an image of one pixel."""
    texts = PngInfo()
    if metadata.xmp is not None:
        texts.add_itxt(XMP_KEYWORD, metadata.xmp)
    pixel = _saved(Image.new("RGB", (1, 1)), "PNG", metadata, pnginfo=texts)
    chunks = pixel[PNG_HEADER_BYTES : pixel.rindex(b"IDAT") - 4]
    return contents[:PNG_HEADER_BYTES] + (metadata.png_colours or b"") + chunks + contents[PNG_HEADER_BYTES:]


def _with_tiff_metadata(contents: bytes, metadata: Metadata) -> bytes:
    """Return a TIFF file with the resolution, XMP and the colour profile."""
    fields = {} if metadata.dpi is None else tags.resolution_fields(metadata.dpi)
    if metadata.xmp is not None:
        fields[tags.XMP] = (tags.BYTE, metadata.xmp)
    if metadata.profile is not None:
        fields[tags.PROFILE] = (tags.UNDEFINED, metadata.profile)
    return tags.with_fields(contents, fields) if fields else contents


def _resolution_exif(dpi: tuple[float, float]) -> bytes:
    """Return EXIF that contains only the resolution."""
    exif = Image.Exif()
    exif.update(zip((tags.X_RESOLUTION, tags.Y_RESOLUTION, tags.RESOLUTION_UNIT), (*dpi, tags.INCH), strict=True))
    return exif.tobytes().removeprefix(EXIF_START)


def colours_of(chunks: Mapping[bytes, bytes]) -> bytes | None:
    """Return the whole chunks that decide about the colours of a PNG; None if its colours are those of sRGB.

    cICP takes precedence over a profile (iCCP) and over sRGB, and all of them over gAMA and cHRM.
    """
    known = {kind: chunks[kind] for kind, size in COLOUR_CHUNK_BYTES.items() if len(chunks.get(kind, b"")) == size}
    if (codes := known.get(b"cICP")) is not None:
        is_srgb = codes[0] in SRGB_PRIMARIES and codes[1] in SRGB_CURVES and codes[3] == FULL_RANGE
        return None if is_srgb and b"iCCP" not in chunks else _chunk(b"cICP", codes)
    if not known or b"iCCP" in chunks or b"sRGB" in chunks or _is_srgb(known):
        return None
    return b"".join(_chunk(kind, data) for kind, data in known.items())


def _chunk(kind: bytes, data: bytes) -> bytes:
    """Return a whole chunk of a PNG file, with its size and its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _is_srgb(known: Mapping[bytes, bytes]) -> bool:
    """Return whether gAMA and cHRM, where they exist, are those of sRGB."""
    gamma = int.from_bytes(known[b"gAMA"], "big") if b"gAMA" in known else SRGB_GAMMA
    corners = struct.unpack(">8I", known[b"cHRM"]) if b"cHRM" in known else SRGB_CORNERS
    distances = (abs(own - usual) for own, usual in zip(corners, SRGB_CORNERS, strict=True))
    return abs(gamma - SRGB_GAMMA) <= GAMMA_TOLERANCE and max(distances) <= CORNER_TOLERANCE
