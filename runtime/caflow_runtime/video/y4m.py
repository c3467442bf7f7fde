"""YUV4MPEG2, by which FFmpeg and others pipe videos: a line of text, then each frame, a line and its planes."""

from dataclasses import dataclass
from fractions import Fraction

from caflow_runtime.image_formats import MAX_PIXELS

MAGIC, FRAME = b"YUV4MPEG2", b"FRAME"
LONGEST_LINE = 1024
"""In bytes, of lines that are read."""
DEPTHS = (9, 10, 12, 14, 16)
COLOURS = {
    "420jpeg": "yuv420p",
    "mono": "gray",
    **{name: f"yuv{name}p" for name in ("411", "422", "444")},
    **{f"{name}p{bits}": f"yuv{name}p{bits}le" for name in ("420", "422", "444") for bits in DEPTHS},
    **{f"mono{bits}": f"gray{bits}le" for bits in DEPTHS},
}
"""Y4M's names of pixel formats to FFmpeg's. Where chroma lies is that of JPEG, as FFmpeg converts it."""
OTHER_NAMES = {"420": "yuv420p", "420mpeg2": "yuv420p", "420paldv": "yuv420p"}
PIXEL_FORMATS = tuple(COLOURS.values())
"""FFmpeg's names of those that Y4M holds."""
USUAL_RATE = Fraction(25)


@dataclass(frozen=True)
class PictureFormat:
    """What each frame of a pipe is."""

    width: int
    height: int
    rate: Fraction
    """Frames per second."""
    pixel_format: str
    """FFmpeg's name."""
    is_full_range: bool = False
    """Whether values of YUV go from 0 to the largest; else to 235 of 255."""
    sample_aspect_ratio: Fraction | None = None
    """Width of a pixel over its height."""

    @property
    def line(self) -> bytes:
        """The first line of a Y4M stream."""
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
    """Read the first line of a Y4M stream.

    Raises:
        ValueError: if it is none, or of colours that are not supported.
    """
    magic, *words = line.decode("latin-1").split()
    if magic.encode() != MAGIC:
        raise ValueError("it is no YUV4MPEG2")
    fields = {word[0]: word[1:] for word in words if word[0] != "X"}
    width, height = int(fields.get("W", 0)), int(fields.get("H", 0))
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ValueError(f"its frames have {width}×{height} pixels")
    name = fields.get("C", "420")
    pixel_format = (COLOURS | OTHER_NAMES).get(name)
    if pixel_format is None:
        raise ValueError(f"its colours, {name}, are not supported")
    return PictureFormat(
        width,
        height,
        _ratio(fields.get("F", "")) or USUAL_RATE,
        pixel_format,
        "XCOLORRANGE=FULL" in words,
        _ratio(fields.get("A", "")),
    )


def _ratio(text: str) -> Fraction | None:
    """Of two numbers with a colon between; None if it is unknown, which 0 stands for."""
    above, _, below = text.partition(":")
    if not above or not int(above) or not int(below or 1):
        return None
    return Fraction(int(above), int(below or 1))
