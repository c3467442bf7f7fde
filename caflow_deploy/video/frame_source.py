"""Interface of all sources of frames, and the properties of a source that a result must keep."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import msgspec

from caflow_runtime.errors import CaflowError
from caflow_runtime.image_arrays import Image

CLOCK = Fraction(1, 90_000)
"""Seconds per tick. All times are counted in ticks, as in MPEG; they are exact for most usual frame rates."""
HD_LINES = 720
"""Height from which players assume BT.709 for a video without a colour tag; below it they assume BT.601."""
TAGS = ("color_range", "colorspace", "color_primaries", "color_trc")
RGB_MATRIX, BT709, BT601 = 0, 1, 6
LIMITED_RANGE, FULL_RANGE, UNSPECIFIED = 1, 2, 2


class TimeRange(msgspec.Struct, frozen=True):
    """Range of a video, in ticks of `CLOCK` since the beginning of the video."""

    start: int = 0
    end: int | None = None
    """End of the range: frames from this time on are skipped. None is the end of the video."""


WHOLE = TimeRange()
MAX_FRAME_PIXELS = 2**26
"""Largest number of pixels of a frame: 67 megapixels, twice as many as in 8K."""


class UnreadableVideo(CaflowError, ValueError):
    """A file, a pipe or an address yields no frames."""


class UnwritableVideo(CaflowError, OSError):
    """A video cannot be written."""


@dataclass(frozen=True)
class TimedFrame:
    """Frame of a source, and the time at which it is shown."""

    image: Image
    """(h, w, 3) uint8 RGB, upright; (h, w, 4) RGBA where `VideoInfo.has_alpha`."""
    ticks: int
    """Presentation timestamp, in ticks of `CLOCK`."""
    captured: float
    """Time at which the frame was read, in seconds of `time.monotonic`."""
    seek: int | None = None
    """Argument for `FileSource.seek` to find the frame; None if only decoding from the file's beginning finds it."""


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a source that a result must keep."""

    frames: int | None
    """Number of frames; None if the container does not say, or if the source has no known end. With a `cut`, this is
    an estimate from the rate."""
    rate: Fraction
    """Frames per second, on average."""
    height: int
    width: int
    """Width as stored, like the height. Frames are yielded upright: a rotation tag may swap the two."""
    bits: int
    """Bits of a colour component: 8, or 10 or more."""
    colour: dict[str, int]
    """FFmpeg's numbers, by the names in `TAGS`. A missing tag has the value that players assume."""
    sample_aspect_ratio: Fraction | None
    """Width of a pixel divided by its height in the frames that are yielded, after rotation; None if unknown."""
    metadata: dict[str, str]
    pixel_format: str = "yuv420p"
    """FFmpeg's name of the pixel format."""
    origin: int = 0
    """Time of the source's first sound or picture, in ticks. It is not subtracted from the times of frames."""
    cut: TimeRange = WHOLE
    """Part of the source that is processed."""
    plays: int | None = None
    """How often an animation is played; 0 is forever. None if the source is not an animation."""
    last_frame: tuple[int, int] | None = None
    """Start and duration of an animation's last frame, in ticks."""
    has_alpha: bool = False
    """Whether frames are RGBA."""
    hdr10: str = ""
    """HDR10 metadata as parameters of x265."""

    @property
    def zero(self) -> int:
        """Source time that becomes 0 in the result, in ticks."""
        return self.origin + self.cut.start


class Source(Protocol):
    """Interface of a source. It yields its frames once, in order."""

    name: str
    """Name of the source in messages."""
    path: Path | None
    """Path of a local file or pattern, whose job can be resumed after a stop; None for all other sources."""
    along: str | None
    """File or address from which FFmpeg reads sound and subtitles; None if there are none."""
    info: VideoInfo
    drops: bool
    """Whether frames that are not processed in time are dropped in favour of newer ones."""
    ended_early: str | None
    """Why frames are missing or damaged; None if they are not."""

    def frames(self) -> Iterator[TimedFrame]:
        """Yield all frames, and close the source at the end."""

    def close(self) -> None:
        """Make `frames` end soon. May be called from any thread."""


def assumed_colours(height: int, is_full_range: bool = False) -> dict[str, int]:
    """Return the colour tags that players assume for untagged frames: FFmpeg's numbers, by the names in `TAGS`."""
    matrix = BT709 if height >= HD_LINES else BT601
    names = ("colorspace", "color_primaries", "color_trc")
    return {"color_range": FULL_RANGE if is_full_range else LIMITED_RANGE, **dict.fromkeys(names, matrix)}


def resized(name: str, before: Sequence[int], after: Sequence[int]) -> str:
    """Return the message for a video that ends early because the size of its frames changes."""
    sizes = [f"{sides[1]}×{sides[0]}" for sides in (before, after)]
    return f"{name}: the size of its frames changes from {sizes[0]} to {sizes[1]}"
