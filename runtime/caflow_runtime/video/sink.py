"""Where frames go: one segment of a video, encoded by PyAV, and whole videos joined from segments.

A video is always written segment by segment: a killed job keeps those that are finished, and one that goes on writes
the same segments as one that was never stopped. Joining copies packets, with sound and subtitles of the source.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.errors import InputError
from caflow_runtime.video.source import BT601, BT709, CLOCK, TAGS, VideoInfo, import_av

Codec = Literal["h264", "hevc", "av1", "ffv1"]
ENCODERS: dict[Codec, str] = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "ffv1": "ffv1"}
TEN_BITS: tuple[Codec, ...] = ("hevc", "av1", "ffv1")
CONTAINERS: dict[str, tuple[Codec, ...]] = {".mp4": ("h264", "hevc", "av1"), ".mkv": ("h264", "hevc", "av1", "ffv1")}
RGB = {"colorspace": 0, "color_range": 2}
"""What FFV1 holds: no matrix, all values."""
SWSCALE = {BT709: 1, 5: 5, BT601: 5, 9: 9, 10: 9}
"""Colour matrices: FFmpeg's number of a stream to that of its converter."""


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded."""

    codec: Codec
    crf: int
    bits: int
    """8 or 10."""

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name."""
        if self.codec == "ffv1":
            return "gbrp10le" if self.bits > 8 else "bgr0"
        return "yuv420p10le" if self.bits > 8 else "yuv420p"

    @property
    def segment_suffix(self) -> str:
        """MP4 keeps times exactly, and decoding times, which Matroska does not store."""
        return ".mkv" if self.codec == "ffv1" else ".mp4"


def check_output(path: Path, codec: Codec) -> None:
    """Whether a video of that codec can have that name.

    Raises:
        InputError
    """
    if path.suffix.lower() not in CONTAINERS:
        raise InputError(f"{path}: wanted a name ending in {' or '.join(CONTAINERS)}")
    if codec not in CONTAINERS[path.suffix.lower()]:
        raise InputError(
            f"{path}: {path.suffix} cannot hold {codec}: wanted one of "
            f"{', '.join(CONTAINERS[path.suffix.lower()])}, or a name ending in .mkv"
        )


class SegmentWriter:
    """One segment; its first frame is at time 0."""

    def __init__(self, path: Path, height: int, width: int, info: VideoInfo, encoding: Encoding) -> None:
        av = import_av()
        self.encoding = encoding
        self.colour = info.colour | (RGB if encoding.codec == "ffv1" else {})
        self.container = av.open(str(path), "w")
        options = {} if encoding.codec == "ffv1" else {"crf": str(encoding.crf)}
        if encoding.codec == "hevc":
            options["x265-params"] = "log-level=error"
        stream = self.container.add_stream(ENCODERS[encoding.codec], rate=info.rate, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, encoding.pixel_format
        stream.codec_context.time_base = CLOCK
        if info.sample_aspect_ratio:
            stream.codec_context.sample_aspect_ratio = info.sample_aspect_ratio
        for tag in TAGS:
            setattr(stream.codec_context, tag, self.colour[tag])
        self.stream: Any = stream
        self.frames = 0
        self.first: int | None = None

    def write(self, pixels: NDArray[np.float32], ticks: int) -> None:
        """Encode (H, W, 3) continuous pixel values to be shown at a time of `CLOCK`."""
        av = import_av()
        self.first = ticks if self.first is None else self.first
        if self.encoding.bits > 8:
            # The cell [w, w + 1) of an 8-bit value is 257 values of 16 bits wide, its middle at w + ½.
            deep = np.clip((pixels - 0.5) * 257, 0, 65535)
            frame = av.VideoFrame.from_ndarray(np.rint(deep).astype(np.uint16), format="rgb48le")
        else:
            frame = av.VideoFrame.from_ndarray(np.clip(pixels, 0, 255).astype(np.uint8), format="rgb24")
        converted = frame.reformat(
            format=self.encoding.pixel_format,
            dst_colorspace=SWSCALE.get(self.colour["colorspace"]),
            dst_color_range=self.colour["color_range"],
        )
        converted.pts, converted.time_base = ticks - self.first, CLOCK
        self.container.mux(self.stream.encode(converted))
        self.frames += 1

    def close(self) -> None:
        """Write what the encoder still holds, and finish the file."""
        self.container.mux(self.stream.encode())
        self.container.close()


def join(segments: Sequence[tuple[Path, int]], output: Path, source: Path | None, info: VideoInfo) -> list[str]:
    """One video of segments, each with the time of its first frame, and of the source's sound and subtitles.

    Returns:
        What could not be kept as it was, a line each.
    """
    av = import_av()
    lost: list[str] = []
    with av.open(str(output), "w") as container:
        container.metadata.update(info.metadata)
        with av.open(str(segments[0][0])) as first:
            video = container.add_stream_from_template(first.streams.video[0])
        streams = _Others(container, source, lost)
        last = None
        for path, start in segments:
            with av.open(str(path)) as segment:
                for packet in segment.demux(segment.streams.video[0]):
                    if packet.dts is None:
                        continue
                    base = Fraction(packet.time_base) / CLOCK
                    pts, dts = (round(time * base) + start for time in (packet.pts, packet.dts))
                    dts = dts if last is None else max(last + 1, dts)
                    packet.pts, packet.dts, packet.time_base, last = pts, min(dts, pts), CLOCK, dts
                    packet.stream = video
                    streams.copy_until(dts * CLOCK)
                    container.mux(packet)
        streams.copy_until(None)
        streams.close()
    return lost


class _Others:
    """Sound and subtitles of a source, copied packet by packet."""

    def __init__(self, container: Any, source: Path | None, lost: list[str]) -> None:
        self.container = container
        self.copies: dict[int, Any] = {}
        self.packets: Iterator[Any] = iter(())
        self.next: Any = None
        self.reader: Any = None
        if source is None:
            return
        self.reader = reader = import_av().open(str(source))
        kept = []
        for stream in reader.streams:
            if stream.type not in ("audio", "subtitle"):
                continue
            try:
                self.copies[stream.index] = container.add_stream_from_template(stream)
            except ValueError as error:
                lost.append(f"{stream.type} {stream.index}: {error}: choose a name ending in .mkv to keep it")
            else:
                kept.append(stream)
        if kept:
            self.packets = (packet for packet in reader.demux(kept) if packet.dts is not None)
            self.next = next(self.packets, None)

    def close(self) -> None:
        """Let go of the source."""
        if self.reader is not None:
            self.reader.close()

    def copy_until(self, seconds: Fraction | None) -> None:
        """Up to a time; all that is left for None."""
        while self.next is not None and (seconds is None or self.next.dts * self.next.time_base <= seconds):
            self.next.stream = self.copies[self.next.stream.index]
            self.container.mux(self.next)
            self.next = next(self.packets, None)
