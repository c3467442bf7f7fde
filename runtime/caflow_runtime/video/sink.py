"""Where frames go: one segment of a video, encoded by PyAV.

A video is always written segment by segment: a killed job keeps those that are finished, and one that goes on writes
the same segments as one that was never stopped.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.errors import InputError
from caflow_runtime.pictures.image_files import WITH_16_BITS, check_suffix
from caflow_runtime.rows.pixels import DEEP, deep_integers
from caflow_runtime.video.numbered import is_numbered
from caflow_runtime.video.source import BT601, BT709, CLOCK, TAGS, VideoInfo, import_av

Codec = Literal["h264", "hevc", "av1", "vp9", "ffv1", "gif", "apng", "webp", "numbered"]
PICTURES: tuple[Codec, ...] = ("gif", "apng", "webp", "numbered")
"""What is no video in the end, but an animation or numbered images: until then segments are FFV1."""
LOSSLESS = "ffv1"
LOSSLESS_FORMATS = {
    (8, False): "bgr0",
    (8, True): "bgra",
    (10, False): "gbrp10le",
    (16, False): "gbrp16le",
    (16, True): "gbrap16le",
}
"""FFmpeg's names, by bits and whether there is alpha."""
ENCODERS: dict[Codec, str] = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9"}
"""FFmpeg's names; of all others it is that of FFV1."""
PRESETS: dict[Codec, str] = {"h264": "preset", "hevc": "preset", "av1": "preset", "vp9": "cpu-used"}
"""By which name an encoder takes how much time it may need."""
HARDWARE_ENCODERS: dict[Codec, str] = {"h264": "h264_nvenc", "hevc": "hevc_nvenc", "av1": "av1_nvenc"}
ENCODER_THREADS = 4
"""The same on every machine: what encoders of H.264 and HEVC write depends on it."""
LARGEST_CRF = 51
TEN_BITS: tuple[Codec, ...] = ("hevc", "av1", "ffv1")
"""By every build of their encoders, the usual one first."""
CONTAINERS: dict[str, tuple[Codec, ...]] = {
    ".mp4": ("h264", "hevc", "av1"),
    ".mov": ("h264", "hevc"),
    ".mkv": ("h264", "hevc", "av1", "vp9", "ffv1"),
    ".webm": ("vp9", "av1"),
    ".gif": ("gif",),
    ".apng": ("apng",),
    ".png": ("apng",),
    ".webp": ("webp",),
}
"""By the end of their names, with the codecs that they hold, the usual one first."""
RGB = {"colorspace": 0, "color_range": 2}
"""What holds RGB: no matrix, all values."""
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
    """8, or 10 of a video, or 16 of numbered images."""
    hardware: bool = False
    """By NVENC; `crf` is then its constant quality."""
    preset: str | None = None
    """How much time the encoder takes, by its own name for that; None is its default."""
    given_format: str | None = None
    """Pixel format, by FFmpeg's name; None is the usual one of the codec."""
    has_alpha: bool = False
    """Of what is no video in the end."""

    @property
    def encoder(self) -> str:
        """FFmpeg's name."""
        return HARDWARE_ENCODERS[self.codec] if self.hardware else ENCODERS.get(self.codec, LOSSLESS)

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name."""
        if self.given_format:
            return self.given_format
        if self.encoder == LOSSLESS:
            return LOSSLESS_FORMATS[self.bits, self.has_alpha]
        if self.bits > 8:
            return "p010le" if self.hardware else "yuv420p10le"
        return "yuv420p"

    @property
    def options(self) -> dict[str, str]:
        """The encoder's."""
        if self.encoder == LOSSLESS:
            return {}
        options = {"cq" if self.hardware else "crf": str(self.crf)}
        if self.preset is not None:
            options["preset" if self.hardware else PRESETS[self.codec]] = self.preset
        if self.encoder == "libx265":
            options["x265-params"] = f"log-level=error:pools={ENCODER_THREADS}"
        return options

    @property
    def segment_suffix(self) -> str:
        """MP4 keeps times exactly, and decoding times, which Matroska does not store."""
        return ".mkv" if self.encoder == LOSSLESS else ".mp4"

    @property
    def segment_format(self) -> str:
        """FFmpeg's name."""
        return "matroska" if self.encoder == LOSSLESS else "mp4"

    @property
    def segment_options(self) -> dict[str, str]:
        """Every frame is on its way to the disk at once: what was written before a kill, or a full disk, plays."""
        if self.encoder == LOSSLESS:
            return {"flush_packets": "1", "cluster_time_limit": "0"}
        return {"flush_packets": "1", "movflags": "frag_every_frame+delay_moov+default_base_moof"}


def usual_codec(output: Path, bits: int) -> Codec:
    """The codec of a result with that name, of so many bits, where none is asked for."""
    if is_numbered(output):
        return "numbered"
    codecs = CONTAINERS.get(output.suffix.lower(), ("h264",))
    return next((codec for codec in codecs if codec in TEN_BITS and bits > 8), codecs[0])


def result_bits(output: Path, codec: Codec, bits: int) -> int:
    """How many bits a result has of a source of so many."""
    if bits <= 8:
        return 8
    if is_numbered(output):
        return 16 if output.suffix.lower() in WITH_16_BITS else 8
    return 10 if codec in TEN_BITS else 8


def bits_of(pixel_format: str) -> int:
    """Of a colour component.

    Raises:
        InputError: if FFmpeg does not know the format.
    """
    try:
        return int(import_av().VideoFormat(pixel_format).components[0].bits)
    except ValueError:
        raise InputError(f"--pixel-format {pixel_format}: FFmpeg knows no such format") from None


def has_hardware_encoder(encoding: Encoding, height: int, width: int) -> bool:
    """Whether NVENC takes frames of that size here."""
    if encoding.codec not in HARDWARE_ENCODERS:
        return False
    return _refusal(replace(encoding, hardware=True), height, width) is None


def check_encoder(encoding: Encoding, height: int, width: int) -> None:
    """Whether an encoder takes such frames with the preset and the pixel format that were asked for.

    Raises:
        InputError
    """
    if encoding.preset is None and encoding.given_format is None:
        return
    if encoding.codec in PICTURES or (encoding.preset is not None and encoding.codec not in PRESETS):
        raise InputError(f"{encoding.codec} has no --preset{' and no --pixel-format' * (encoding.codec in PICTURES)}")
    formats = [found.name for found in import_av().Codec(encoding.encoder, "w").video_formats or ()]
    formats = [name for name in formats if not name.startswith("yuvj")]  # these say the range, which has a tag
    if encoding.given_format is not None and encoding.given_format not in formats:
        raise InputError(
            f"--pixel-format {encoding.given_format}: {encoding.encoder} cannot encode it: wanted one of "
            f"{', '.join(formats)}"
        )
    refusal = _refusal(encoding, height, width)
    if refusal is not None:
        asked = {"--preset": encoding.preset, "--pixel-format": encoding.given_format}
        options = " ".join(f"{option} {value}" for option, value in asked.items() if value is not None)
        raise InputError(f"{encoding.encoder} cannot encode {width}×{height} with {options}: {refusal}")


def _refusal(encoding: Encoding, height: int, width: int) -> str | None:
    """Why an encoder does not take frames of that size; None if it does."""
    av = import_av()
    try:
        context = av.CodecContext.create(encoding.encoder, "w")
        context.height, context.width, context.time_base = height, width, CLOCK
        context.pix_fmt, context.options = encoding.pixel_format, encoding.options
        with scheduled_as_before():
            context.open()
    except (av.FFmpegError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None


def check_output(path: Path, encoding: Encoding) -> None:
    """Whether a result of that codec can have that name and quality.

    Raises:
        InputError
    """
    codec, suffix = encoding.codec, path.suffix.lower()
    if is_numbered(path):
        check_suffix(path)
    elif suffix not in CONTAINERS:
        *most, last = CONTAINERS
        raise InputError(f"{path}: wanted a name ending in {', '.join(most)} or {last}, or of images, such as %05d.png")
    codecs = ("numbered",) if is_numbered(path) else CONTAINERS[suffix]
    if codec not in codecs:
        way = f"wanted one of {', '.join(codecs)}" if len(codecs) > 1 else "leave --codec out"
        raise InputError(f"{path}: {path.suffix} cannot hold {codec}: {way}, or give a name ending in .mkv")
    if codec in ("h264", "hevc") and encoding.crf > LARGEST_CRF:
        raise InputError(f"crf: of {codec} wanted at most {LARGEST_CRF}, got {encoding.crf}")


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


def colours_of(info: VideoInfo, pixel_format: str) -> dict[str, int]:
    """FFmpeg's numbers of `TAGS` for frames of a pixel format that are made of a source."""
    return info.colour | (RGB if import_av().VideoFormat(pixel_format).is_rgb else {})


def as_encoded(
    pixels: NDArray[np.float32],
    pixel_format: str,
    colour: Mapping[str, int],
    alpha: NDArray[Any] | None = None,
) -> Any:
    """A frame of PyAV, in a pixel format, of (H, W, 3) continuous pixel values.

    Arguments:
        colour: by `TAGS`.
        alpha: (H, W) uint8, where the format has it.
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
    )


class SegmentWriter:
    """One segment; its first frame is at time 0."""

    def __init__(self, path: Path, height: int, width: int, info: VideoInfo, encoding: Encoding) -> None:
        av = import_av()
        self.encoding = encoding
        self.colour = colours_of(info, encoding.pixel_format)
        chroma = av.VideoFormat(encoding.pixel_format, 2, 2)
        if width % (2 // chroma.chroma_width()) or height % (2 // chroma.chroma_height()):
            raise InputError(
                f"{encoding.codec} halves the colours' resolution: wanted even sides, got {width}×{height}: "
                "give --pixel-format yuv444p, or --codec ffv1, which holds any"
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

    def write(self, pixels: NDArray[np.float32], ticks: int, alpha: NDArray[np.uint8] | None = None) -> None:
        """Encode (H, W, 3) continuous pixel values, and (H, W) alpha, to be shown at a time of `CLOCK`."""
        self.first = ticks if self.first is None else self.first
        converted = as_encoded(pixels, self.encoding.pixel_format, self.colour, alpha)
        converted.pts, converted.time_base = ticks - self.first, CLOCK
        self.container.mux(self.stream.encode(converted))
        self.frames += 1

    def close(self) -> None:
        """Write what the encoder still holds, and finish the file."""
        self.container.mux(self.stream.encode())
        self.container.close()
