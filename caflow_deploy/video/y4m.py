"""YUV4MPEG2 (Y4M), a format for videos in pipes: a header line, then a line and the planes of each frame."""

import re
from dataclasses import dataclass
from fractions import Fraction

from caflow_deploy.images.file_search import MAX_IMAGE_PIXELS

MAGIC, FRAME = b"YUV4MPEG2", b"FRAME"
LONGEST_LINE = 1024
"""Largest length of a line that is read, in bytes."""
DEPTHS = (9, 10, 12, 14, 16)
COLOURS = {
    "420jpeg": "yuv420p",
    "mono": "gray",
    **{name: f"yuv{name}p" for name in ("411", "422", "444")},
    **{f"{name}p{bits}": f"yuv{name}p{bits}le" for name in ("420", "422", "444") for bits in DEPTHS},
    **{f"mono{bits}": f"gray{bits}le" for bits in DEPTHS},
}
"""FFmpeg's pixel formats by Y4M's names. 4:2:0 is 420jpeg, because FFmpeg's conversion places chroma as JPEG does."""
OTHER_NAMES = {"420": "yuv420p", "420mpeg2": "yuv420p", "420paldv": "yuv420p"}
PIXEL_FORMATS = tuple(COLOURS.values())
"""FFmpeg's names of the pixel formats that Y4M supports."""
USUAL_RATE = Fraction(25)
DIGITS = re.compile("[0-9]+")


@dataclass(frozen=True)
class PictureFormat:
    """Format of the frames in a pipe."""

    width: int
    height: int
    rate: Fraction
    """Frames per second."""
    pixel_format: str
    """FFmpeg's name of the pixel format."""
    is_full_range: bool = False
    """Whether YUV values use the full range: 0 to 255 for 8 bits. Otherwise luma uses 16 to 235."""
    sample_aspect_ratio: Fraction | None = None
    """Width of a pixel divided by its height; None if unknown."""

    @property
    def line(self) -> bytes:
        """Header line of a Y4M stream, with its line end."""
        aspect = self.sample_aspect_ratio or Fraction(0)
        fields = [
            f"W{self.width}",
            f"H{self.height}",
            f"F{self.rate.numerator}:{self.rate.denominator}",
            "Ip",
            f"A{aspect.numerator}:{aspect.denominator if aspect else 0}",
            f"C{next(name for name, known in COLOURS.items() if known == self.pixel_format)}",
            f"XCOLORRANGE={'FULL' if self.is_full_range else 'LIMITED'}",
        ]
        return b" ".join([MAGIC, *(field.encode() for field in fields)]) + b"\n"


def parse_line(line: bytes) -> PictureFormat:
    """Return the format in the header line of a Y4M stream.

    Raises:
        ValueError: if the line is not a valid header, or its pixel format is not supported.
    """
    magic, *words = line.decode("latin-1").split()
    if magic.encode() != MAGIC:
        raise ValueError("it is not YUV4MPEG2")
    fields = {word[0]: word[1:] for word in words if word[0] != "X"}
    width, height = _number(fields, "W"), _number(fields, "H")
    if width < 1 or height < 1 or width * height > MAX_IMAGE_PIXELS:
        raise ValueError(f"frames must have 1 to {MAX_IMAGE_PIXELS} pixels; got {width}×{height}")
    name = fields.get("C", "420")
    pixel_format = (COLOURS | OTHER_NAMES).get(name)
    if pixel_format is None:
        raise ValueError(f"its pixel format {name} is not supported")
    return PictureFormat(
        width,
        height,
        _ratio(fields, "F") or USUAL_RATE,
        pixel_format,
        "XCOLORRANGE=FULL" in words,
        _ratio(fields, "A"),
    )


def _number(fields: dict[str, str], name: str) -> int:
    """Return the number in a field such as W640; 0 without such a field."""
    text = fields.get(name, "0")
    if not DIGITS.fullmatch(text):
        raise ValueError(f"its field {name} must be a number, such as {name}640; got {name}{text}")
    return int(text)


def _ratio(fields: dict[str, str], name: str) -> Fraction | None:
    """Return the ratio in a field such as F30:1; None if it is unknown, which Y4M writes as 0."""
    above, _, below = fields.get(name, "0:0").partition(":")
    below = below or "1"
    if not (DIGITS.fullmatch(above) and DIGITS.fullmatch(below)):
        raise ValueError(
            f"its field {name} must be a ratio of positive integers, such as {name}30:1; got {name}{fields[name]}"
        )
    return Fraction(int(above), int(below)) if int(above) and int(below) else None
