"""Metadata of an image file, and its adaptation to a result that was made from the image."""

import re
from dataclasses import dataclass, replace

from caflow_deploy.images.tiff_tags import MALFORMED, upright
from caflow_runtime.checks import check_integer

PROFILE_HEADER, COLOURED, GREY = 128, b"RGB ", b"GRAY"
"""Size of the header of an ICC profile, and the colour spaces that the header can name."""
IPTC_MARKER = b"\x1c"
MAX_XMP_BYTES, MAX_DPI = 2**22, 2**24
XMP_SIDES = {"tiff:ImageWidth": 0, "exif:PixelXDimension": 0, "tiff:ImageLength": 1, "exif:PixelYDimension": 1}
"""XMP properties that contain a side of the image: 0 for the width, 1 for the height."""
XMP_THUMBNAILS = (b"xmp:Thumbnails", b"xap:Thumbnails")
XMP_EXTENSION = re.compile(rb"""\sxmpNote:HasExtendedXMP=("[^"]*"|'[^']*')""")
"""XMP attribute that refers to further XMP in other segments of a JPEG, which is not copied."""


@dataclass(frozen=True)
class Metadata:
    """Metadata of an image file. Fields that the file does not have are None."""

    profile: bytes | None = None
    """ICC colour profile."""
    exif: bytes | None = None
    """EXIF: a TIFF file without pixels. It does not include the six bytes, "Exif" and two zeros, that JPEG files store
    before it."""
    xmp: bytes | None = None
    """XMP packet, as XML."""
    iptc: bytes | None = None
    """IPTC-IIM data, the contents of Photoshop's resource 0x0404."""
    dpi: tuple[float, float] | None = None
    """Resolution for printing, horizontal and vertical, in pixels per inch."""
    png_colours: bytes | None = None
    """Chunks gAMA, cHRM and cICP of a PNG, whole, if they name other colours than sRGB."""

    def colours(self) -> "Metadata":
        """Return only the colour profile and the colour chunks of a PNG, without which the colours would change."""
        return Metadata(self.profile, png_colours=self.png_colours)

    def for_result(self, width: int, height: int) -> "Metadata":
        """Return the metadata for a result of this size: upright, with new sides, and without thumbnails.

        Raises:
            InputError: if a side is not a positive integer.
        """
        check_integer("width", width, 1)
        check_integer("height", height, 1)
        exif = None if self.exif is None else upright(self.exif, width, height)
        return replace(self, exif=exif, xmp=None if self.xmp is None else _xmp_for_result(self.xmp, width, height))


def checked(found: Metadata) -> tuple[Metadata, list[str]]:
    """Return the metadata without its malformed parts, and a message about each of these."""
    wrong = []
    if found.profile is not None and not _is_profile(found.profile):
        found = replace(found, profile=None)
        wrong.append("its colour profile is malformed and was not copied")
    if found.exif is not None:
        try:
            upright(found.exif, 1, 1)
        except MALFORMED:
            found = replace(found, exif=None)
            wrong.append("its EXIF is malformed and was not copied")
    if found.xmp is not None and not _is_xmp(found.xmp):
        found = replace(found, xmp=None)
        wrong.append("its XMP is malformed and was not copied")
    if found.iptc is not None and not found.iptc.startswith(IPTC_MARKER):
        found = replace(found, iptc=None)
        wrong.append("its IPTC is malformed and was not copied")
    if found.dpi is not None and not all(0 < side < MAX_DPI for side in found.dpi):
        found = replace(found, dpi=None)
    return found, wrong


def is_profile_of(profile: bytes, is_grey: bool) -> bool:
    """Return whether a colour profile is for grey images (with `is_grey`), or for RGB images (without)."""
    return profile[16:20] == (GREY if is_grey else COLOURED)


def _is_profile(profile: bytes) -> bool:
    return len(profile) > PROFILE_HEADER and int.from_bytes(profile[:4], "big") == len(profile)


def _is_xmp(xmp: bytes) -> bool:
    try:
        xmp.decode()
    except UnicodeDecodeError:
        return False
    return len(xmp) <= MAX_XMP_BYTES and b"rdf:RDF" in xmp and b"\0" not in xmp.rstrip(b"\0")


def _xmp_for_result(xmp: bytes, width: int, height: int) -> bytes:
    """Return XMP with an upright orientation and new sides, and without thumbnails.

    Namespace prefixes must be the usual ones of the XMP specification.
    """
    values = {"tiff:Orientation": 1, **{name: (width, height)[k] for name, k in XMP_SIDES.items()}}
    for name, value in values.items():
        number, tag = str(value).encode(), re.escape(name).encode()
        xmp = re.sub(rb"(\s" + tag + rb"""=)("[^"]*"|'[^']*')""", rb'\g<1>"' + number + b'"', xmp)
        xmp = re.sub(rb"(<" + tag + rb">)[^<]*(</)", rb"\g<1>" + number + rb"\g<2>", xmp)
    for element in XMP_THUMBNAILS:
        xmp = _without_element(xmp, element)
    return XMP_EXTENSION.sub(b"", xmp)


def _without_element(xml: bytes, name: bytes) -> bytes:
    """Return XML without the elements of this name. Such elements must not be nested in each other."""
    opening, closing = b"<" + name + b">", b"</" + name + b">"
    kept, place = [], 0
    while (start := xml.find(opening, place)) >= 0 and (end := xml.find(closing, start)) >= 0:
        kept.append(xml[place:start])
        place = end + len(closing)
    return b"".join([*kept, xml[place:]])
