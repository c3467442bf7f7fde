"""Options of an enlarged video: how its frames are drawn, which of them, and how they are encoded."""

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, structs

from caflow_deploy.video.encoding import (
    Encoding,
    bits_of,
    check_encoder,
    check_output,
    has_hardware_encoder,
    result_bits,
    usual_codec,
)
from caflow_deploy.video.frame_source import CLOCK, TimeRange, VideoInfo
from caflow_deploy.video.segment_lengths import SEGMENT_FRAMES
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.stream import FrameOptions, StreamSettings

RATE = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(?:/(\d{1,6}))?")


class VideoOptions(FrameOptions, frozen=True):
    """How the frames of a video are drawn, which of them, and how they are encoded.

    Raises:
        InputError: if a value is not valid.
    """

    codec: Literal["h264", "hevc", "av1", "vp9", "ffv1"] | None = None
    """Video codec. By default h264; hevc for 10 bits; vp9 in .webm."""
    crf: Annotated[int, Meta(ge=0, le=63)] = 18
    """Constant rate factor of the encoder; lower values give higher quality and larger files. ffv1 is lossless and
    ignores it."""
    encoder: Literal["auto", "software", "nvenc"] = "auto"
    """Where to encode. auto: on an NVIDIA GPU that supports it (NVENC), and otherwise in software. software: on the
    CPU. nvenc: on the GPU, or end with an error."""
    preset: str | None = None
    """Speed of the encoder, by the encoder's own name: slow for h264 and hevc, or 6 for av1 and vp9, for example."""
    pixel_format: str | None = None
    """Pixel format, by FFmpeg's name, such as yuv444p or yuv420p10le. By default 4:2:0, with the bits of the input."""
    segment_frames: Annotated[int, Meta(ge=1)] = SEGMENT_FRAMES
    """Largest number of frames of the input in each segment; the first segments are shorter. A job that is resumed
    begins with the first unfinished segment; a worker draws one segment at a time."""
    start: Annotated[float, Meta(ge=0)] | None = None
    """Begin at this time of the input, in seconds. Commands also take HH:MM:SS: 83.5, 1:23.5 and 0:01:23.5 are the same
    time."""
    end: Annotated[float, Meta(ge=0)] | None = None
    """End at this time of the input, as for `start`: frames and sound from this time on are skipped."""
    rate: str | None = None
    """For numbered images: frames per second, such as 25 or 30000/1001. By default 25."""
    force: bool = False
    """Start again, and overwrite existing results."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.end is not None and self.end <= (self.start or 0):
            raise InputError(f"end must be later than start; got {self.end:g} and {self.start or 0:g}")
        found = None if self.rate is None else RATE.fullmatch(self.rate)
        if self.rate is not None and not (found and Fraction(found[1]) and Fraction(found[2] or 1)):
            raise InputError(f"rate must be frames per second, such as 25 or 30000/1001; got {self.rate!r}")

    @property
    def cut(self) -> TimeRange:
        """The part of the input to read."""
        return TimeRange(_ticks(self.start or 0.0), None if self.end is None else _ticks(self.end))

    @property
    def frames_per_second(self) -> Fraction | None:
        """The rate as a number."""
        found = None if self.rate is None else RATE.fullmatch(self.rate)
        return None if found is None else Fraction(found[1]) / Fraction(found[2] or 1)

    def streaming(self, draw: DrawOptions) -> StreamSettings:
        """Return the settings of the stream. Codecs that halve the resolution of colours get even sides."""
        size = self.size
        if size is not None and self.codec != "ffv1":
            size = structs.replace(size, multiple=2)
        return StreamSettings(draw=draw, noise=self.noise, batch=self.batch, size=size)

    def encoding(self, info: VideoInfo, output: Path, sides: tuple[int, int], is_alone: bool = True) -> Encoding:
        """Return the encoding of a result. Bits that are not given are those of the input.

        Arguments:
            sides: height and width of the result.
            is_alone: whether this process encodes. The encoding of workers is in software.

        Raises:
            InputError: if the encoder, or the format of the output file, does not support the encoding.
        """
        bits = bits_of(self.pixel_format) if self.pixel_format else info.bits
        codec = self.codec or usual_codec(output, bits)
        bits = result_bits(output, codec, bits)
        encoding = Encoding(codec, self.crf, bits, False, self.preset, self.pixel_format, info.has_alpha)
        check_output(output, encoding)
        if is_alone and self.encoder != "software":
            encoding = self._in_hardware(encoding, *sides)
        check_encoder(encoding, *sides)
        return encoding

    def _in_hardware(self, software: Encoding, height: int, width: int) -> Encoding:
        if has_hardware_encoder(software, height, width):
            return replace(software, hardware=True)
        if self.encoder == "nvenc":
            raise InputError(
                f"`encoder` nvenc: NVENC cannot encode {software.codec} of {width}×{height} here; remove `encoder`"
            )
        return software


def _ticks(seconds: float) -> int:
    return round(Fraction(str(seconds)) / CLOCK)
