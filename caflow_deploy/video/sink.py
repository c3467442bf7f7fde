"""Encoding of frames with PyAV, one segment of a video at a time.

A video is always written in segments. A job that is killed keeps its finished segments. A resumed job writes the same
segments as a job that was never stopped.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_deploy.video.encoding import ENCODER_THREADS, Encoding, check_sides, wrong_size
from caflow_deploy.video.frame_source import BT601, BT709, CLOCK, FULL_RANGE, RGB_MATRIX, TAGS, VideoInfo
from caflow_deploy.video.opening import accurate_conversion, address_of, import_av
from caflow_deploy.video.thread_scheduling import scheduled_as_before
from caflow_runtime.batching.pixels import DEEP, deep_integers

RGB = {"colorspace": RGB_MATRIX, "color_range": FULL_RANGE}
"""Tags of RGB pixel formats: no matrix, full range."""
SWSCALE = {BT709: 1, 4: 4, 5: 5, BT601: 5, 7: 7, 9: 9, 10: 9}
"""Colour matrices: from FFmpeg's number in a stream to the number in FFmpeg's converter (swscale)."""
X265_DELAY = 2
"""Frames that x265 needs before it knows decoding times. For fewer frames, or as many, it returns random ones."""


def colour_tags(info: VideoInfo, pixel_format: str) -> dict[str, int]:
    """Return the colour tags of results in a pixel format: FFmpeg's numbers, by the names in `TAGS`."""
    return info.colour | (RGB if import_av().VideoFormat(pixel_format).is_rgb else {})


def as_encoded(
    pixels: NDArray[np.float32],
    pixel_format: str,
    colour: Mapping[str, int],
    alpha: NDArray[Any] | None = None,
) -> Any:
    """Return (H, W, 3) continuous pixel values as a PyAV frame in a pixel format.

    Arguments:
        colour: colour tags, FFmpeg's numbers by the names in `TAGS`.
        alpha: (H, W) uint8 for formats with alpha; None for others.
    """
    av = import_av()
    values: NDArray[Any]
    if av.VideoFormat(pixel_format).components[0].bits > 8:
        values, formats = deep_integers(pixels), ("rgb48le", "rgba64le")
        alpha = None if alpha is None else alpha * np.uint16(DEEP)
    else:
        values, formats = np.clip(pixels, 0, 255).astype(np.uint8), ("rgb24", "rgba")
    values = values if alpha is None else np.dstack([values, alpha])
    return av.VideoFrame.from_ndarray(values, format=formats[alpha is not None]).reformat(
        format=pixel_format,
        dst_colorspace=SWSCALE.get(colour["colorspace"]),
        dst_color_range=colour["color_range"],
        interpolation=accurate_conversion(),
    )


class SegmentWriter:
    """Writer of one segment. The first frame in the file has time 0."""

    def __init__(self, path: Path, height: int, width: int, info: VideoInfo, encoding: Encoding) -> None:
        av = import_av()
        self.encoding = encoding
        self.colour = colour_tags(info, encoding.pixel_format)
        check_sides(encoding, height, width)
        self.container = av.open(address_of(path), "w", encoding.segment_format, options=encoding.segment_options)
        options = encoding.options
        if encoding.encoder == "libx265" and info.hdr10:
            options["x265-params"] += f":{info.hdr10}"
        stream = self.container.add_stream(encoding.encoder, rate=info.rate, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, encoding.pixel_format
        stream.codec_context.time_base, stream.codec_context.thread_count = CLOCK, ENCODER_THREADS
        if info.sample_aspect_ratio:
            stream.codec_context.sample_aspect_ratio = info.sample_aspect_ratio
        for tag in TAGS:
            setattr(stream.codec_context, tag, self.colour[tag])
        try:
            with scheduled_as_before():
                stream.codec_context.open()
        except av.FFmpegError as error:
            self.container.close()
            path.unlink(missing_ok=True)
            raise wrong_size(encoding, height, width, error.strerror) from None
        self.stream: Any = stream
        self.frames = 0
        self.first: int | None = None

    def write(self, pixels: NDArray[np.float32], ticks: int, alpha: NDArray[np.uint8] | None = None) -> None:
        """Encode one frame.

        Arguments:
            pixels: (H, W, 3) continuous pixel values.
            ticks: presentation timestamp, in ticks of `CLOCK`.
            alpha: (H, W), for formats with alpha.
        """
        self.first = ticks if self.first is None else self.first
        converted = as_encoded(pixels, self.encoding.pixel_format, self.colour, alpha)
        converted.pts, converted.time_base = ticks - self.first, CLOCK
        self.container.mux(self.stream.encode(converted))
        self.frames += 1

    def close(self) -> None:
        """Write the frames that the encoder still buffers, and finish the file."""
        packets = self.stream.encode()
        if self.encoding.encoder == "libx265" and self.frames <= X265_DELAY:
            for packet in packets:
                packet.dts = packet.pts  # so few frames are never reordered
        self.container.mux(packets)
        self.container.close()
