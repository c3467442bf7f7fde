"""Where frames go: one segment of a video, encoded by PyAV.

A video is always written segment by segment: a killed job keeps those that are finished, and one that goes on writes
the same segments as one that was never stopped.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.errors import InputError
from caflow_runtime.video.source import BT601, BT709, CLOCK, TAGS, VideoInfo, import_av

Codec = Literal["h264", "hevc", "av1", "ffv1"]
ENCODERS: dict[Codec, str] = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "ffv1": "ffv1"}
HARDWARE_ENCODERS: dict[Codec, str] = {"h264": "h264_nvenc", "hevc": "hevc_nvenc", "av1": "av1_nvenc"}
ENCODER_THREADS = 4
"""The same on every machine: what encoders of H.264 and HEVC write depends on it."""
LARGEST_CRF = 51
TEN_BITS: tuple[Codec, ...] = ("hevc", "av1", "ffv1")
CONTAINERS: dict[str, tuple[Codec, ...]] = {".mp4": ("h264", "hevc", "av1"), ".mkv": ("h264", "hevc", "av1", "ffv1")}
RGB = {"colorspace": 0, "color_range": 2}
"""What FFV1 holds: no matrix, all values."""
TASKS = Path("/proc/self/task")
"""A folder for each thread of this process, on Linux."""
SWSCALE = {BT709: 1, 5: 5, BT601: 5, 9: 9, 10: 9}
"""Colour matrices: FFmpeg's number of a stream to that of its converter."""


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded."""

    codec: Codec
    crf: int
    bits: int
    """8 or 10."""
    hardware: bool = False
    """By NVENC; `crf` is then its constant quality."""

    @property
    def encoder(self) -> str:
        """FFmpeg's name."""
        return HARDWARE_ENCODERS[self.codec] if self.hardware else ENCODERS[self.codec]

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name."""
        if self.codec == "ffv1":
            return "gbrp10le" if self.bits > 8 else "bgr0"
        if self.bits > 8:
            return "p010le" if self.hardware else "yuv420p10le"
        return "yuv420p"

    @property
    def options(self) -> dict[str, str]:
        """The encoder's."""
        if self.codec == "ffv1":
            return {}
        options = {"cq" if self.hardware else "crf": str(self.crf)}
        if self.encoder == "libx265":
            options["x265-params"] = f"log-level=error:pools={ENCODER_THREADS}"
        return options

    @property
    def segment_suffix(self) -> str:
        """MP4 keeps times exactly, and decoding times, which Matroska does not store."""
        return ".mkv" if self.codec == "ffv1" else ".mp4"

    @property
    def segment_format(self) -> str:
        """FFmpeg's name."""
        return "matroska" if self.codec == "ffv1" else "mp4"

    @property
    def segment_options(self) -> dict[str, str]:
        """Every frame is on its way to the disk at once: what was written before a kill, or a full disk, plays."""
        if self.codec == "ffv1":
            return {"flush_packets": "1", "cluster_time_limit": "0"}
        return {"flush_packets": "1", "movflags": "frag_every_frame+delay_moov+default_base_moof"}


def has_hardware_encoder(encoding: Encoding, height: int, width: int) -> bool:
    """Whether NVENC takes frames of that size here."""
    av = import_av()
    if encoding.codec not in HARDWARE_ENCODERS:
        return False
    try:
        context = av.CodecContext.create(HARDWARE_ENCODERS[encoding.codec], "w")
        context.height, context.width, context.time_base = height, width, CLOCK
        context.pix_fmt = replace(encoding, hardware=True).pixel_format
        context.open()
    except (av.FFmpegError, ValueError):
        return False
    return True


def check_output(path: Path, codec: Codec, crf: int) -> None:
    """Whether a video of that codec can have that name and quality.

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
    if codec in ("h264", "hevc") and crf > LARGEST_CRF:
        raise InputError(f"crf: of {codec} wanted at most {LARGEST_CRF}, got {crf}")


@contextmanager
def scheduled_as_before() -> Iterator[None]:
    """Give threads that the block starts or changes the priority of the calling one.

    Where it runs as root, SVT-AV1 makes its own threads, and the one that opens it, real-time threads of the highest
    priority: nothing else would run on their cores, not even after the encoder is closed.
    """
    if not TASKS.is_dir():
        yield
        return
    policy, parameter, before = os.sched_getscheduler(0), os.sched_getparam(0), _policies()
    try:
        yield
    finally:
        for thread in (thread for thread, now in _policies().items() if now != before.get(thread, policy)):
            with suppress(OSError):  # it has ended
                os.sched_setscheduler(thread, policy, parameter)


def _policies() -> dict[int, int]:
    """Of each thread of this process."""
    found = {}
    for path in TASKS.iterdir():
        with suppress(OSError):
            found[int(path.name)] = os.sched_getscheduler(int(path.name))
    return found


class SegmentWriter:
    """One segment; its first frame is at time 0."""

    def __init__(self, path: Path, height: int, width: int, info: VideoInfo, encoding: Encoding) -> None:
        av = import_av()
        self.encoding = encoding
        self.colour = info.colour | (RGB if encoding.codec == "ffv1" else {})
        if encoding.codec != "ffv1" and (height % 2 or width % 2):
            raise InputError(
                f"{encoding.codec} halves the colours' resolution: wanted even sides, got {width}×{height}: "
                "give --codec ffv1, which holds any"
            )
        self.container = av.open(str(path), "w", encoding.segment_format, options=encoding.segment_options)
        stream = self.container.add_stream(encoding.encoder, rate=info.rate, options=encoding.options)
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
            raise InputError(
                f"{encoding.encoder} cannot encode frames of {width}×{height}: {error.strerror}: give another --codec"
            ) from None
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
