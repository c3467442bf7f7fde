"""What an image file says besides its pixels, and what of it holds of an image that was made of them."""

import re
from dataclasses import dataclass, replace

from caflow_runtime.pictures.tags import MALFORMED, first_directory, upright

CM_PER_INCH, CM_PER_M = 2.54, 100.0
PROFILE_HEADER, COLOURED, GREY = 128, b"RGB ", b"GRAY"
"""Bytes that an ICC profile begins with, and the colour spaces that they name."""
IPTC_MARKER = b"\x1c"
MOST_XMP_BYTES = 2**22
XMP_SIDES = {"tiff:ImageWidth": 0, "exif:PixelXDimension": 0, "tiff:ImageLength": 1, "exif:PixelYDimension": 1}
"""0: the width, 1: the height."""
XMP_THUMBNAILS = (b"xmp:Thumbnails", b"xap:Thumbnails")
XMP_EXTENSION = re.compile(rb"""\sxmpNote:HasExtendedXMP=("[^"]*"|'[^']*')""")
"""Says that there is more elsewhere in a JPEG, which is not kept."""


@dataclass(frozen=True)
class Resolution:
    """Pixels per inch, or per centimetre."""

    x: float
    y: float
    per_cm: bool = False

    def per(self, unit_cm: float) -> tuple[float, float]:
        """Return both per unit of that many centimetres."""
        own = 1.0 if self.per_cm else CM_PER_INCH
        return (self.x, self.y) if unit_cm == own else (self.x * unit_cm / own, self.y * unit_cm / own)


@dataclass(frozen=True)
class Metadata:
    """What an image file says besides its pixels; None is what it does not say."""

    profile: bytes | None = None
    """ICC: what its colours mean."""
    exif: bytes | None = None
    """A TIFF file without pixels."""
    xmp: bytes | None = None
    """XML."""
    iptc: bytes | None = None
    """IPTC-IIM, as it lies in resource 0x0404 of Photoshop."""
    resolution: Resolution | None = None

    def colours(self) -> "Metadata":
        """Return the colour profile alone: without it colours would be others."""
        return Metadata(self.profile)

    def for_result(self, width: int, height: int) -> "Metadata":
        """Return what holds of an image of that size which needs no turning, without thumbnails of the input."""
        exif = None if self.exif is None else upright(self.exif, width, height)
        return replace(self, exif=exif, xmp=None if self.xmp is None else _xmp_for_result(self.xmp, width, height))


def checked(found: Metadata) -> tuple[Metadata, list[str]]:
    """Return what can be kept, and say of the rest that it is malformed."""
    wrong = []
    if found.profile is not None and not _is_profile(found.profile):
        found = replace(found, profile=None)
        wrong.append("its colour profile is malformed and was left out")
    if found.exif is not None:
        try:
            upright(found.exif, 1, 1)
            first_directory(found.exif)
        except MALFORMED:
            found = replace(found, exif=None)
            wrong.append("its EXIF is malformed and was left out")
    if found.xmp is not None and not _is_xmp(found.xmp):
        found = replace(found, xmp=None)
        wrong.append("its XMP is malformed and was left out")
    if found.iptc is not None and not found.iptc.startswith(IPTC_MARKER):
        found = replace(found, iptc=None)
        wrong.append("its IPTC is malformed and was left out")
    if (sides := found.resolution) is not None and not (0 < sides.x < 2**24 and 0 < sides.y < 2**24):
        found = replace(found, resolution=None)
    return found, wrong


def is_profile_of(profile: bytes, is_grey: bool) -> bool:
    """Return whether a colour profile is for grey images, or for those with colours."""
    return profile[16:20] == (GREY if is_grey else COLOURED)


def _is_profile(profile: bytes) -> bool:
    return len(profile) > PROFILE_HEADER and int.from_bytes(profile[:4], "big") == len(profile)


def _is_xmp(xmp: bytes) -> bool:
    try:
        xmp.decode()
    except UnicodeDecodeError:
        return False
    return len(xmp) <= MOST_XMP_BYTES and b"rdf:RDF" in xmp and b"\0" not in xmp.rstrip(b"\0")


def _xmp_for_result(xmp: bytes, width: int, height: int) -> bytes:
    """Attributes and elements have the names that the XMP specification gives them."""
    values = {"tiff:Orientation": 1, **{name: (width, height)[k] for name, k in XMP_SIDES.items()}}
    for name, value in values.items():
        number, tag = str(value).encode(), re.escape(name).encode()
        xmp = re.sub(rb"(\s" + tag + rb"""=)("[^"]*"|'[^']*')""", rb'\g<1>"' + number + b'"', xmp)
        xmp = re.sub(rb"(<" + tag + rb">)[^<]*(</)", rb"\g<1>" + number + rb"\g<2>", xmp)
    for element in XMP_THUMBNAILS:
        xmp = _without_element(xmp, element)
    return XMP_EXTENSION.sub(b"", xmp)


def _without_element(xml: bytes, name: bytes) -> bytes:
    """Without all elements of that name. They hold none of their own."""
    opening, closing = b"<" + name + b">", b"</" + name + b">"
    kept, place = [], 0
    while (start := xml.find(opening, place)) >= 0 and (end := xml.find(closing, start)) >= 0:
        kept.append(xml[place:start])
        place = end + len(closing)
    return b"".join([*kept, xml[place:]])
