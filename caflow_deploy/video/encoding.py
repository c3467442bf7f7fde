"""Settings for encoding frames: codecs, encoders and file formats, and the checks that they fit together."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from caflow_deploy.images.image_files import WITH_16_BITS, check_suffix
from caflow_deploy.video.frame_source import CLOCK
from caflow_deploy.video.numbered import is_numbered
from caflow_deploy.video.opening import import_av
from caflow_deploy.video.thread_scheduling import scheduled_as_before
from caflow_runtime.errors import InputError

Codec = Literal["h264", "hevc", "av1", "vp9", "ffv1", "gif", "apng", "webp", "numbered"]
PICTURES: tuple[Codec, ...] = ("gif", "apng", "webp", "numbered")
"""Results that are animations or numbered images, not videos. Their segments are FFV1, and are converted at the end."""
LOSSLESS = "ffv1"
LOSSLESS_FORMATS = {
    (8, False): "bgr0",
    (8, True): "bgra",
    (10, False): "gbrp10le",
    (16, False): "gbrp16le",
    (16, True): "gbrap16le",
}
"""Lossless pixel formats, by FFmpeg's names. Keys are the bits of a component, and whether there is alpha."""
ENCODERS: dict[Codec, str] = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9"}
"""FFmpeg's names of the software encoders; all other codecs use FFV1."""
PRESETS: dict[Codec, str] = {"h264": "preset", "hevc": "preset", "av1": "preset", "vp9": "cpu-used"}
"""Name of the option that sets the speed preset of each encoder."""
HARDWARE_ENCODERS: dict[Codec, str] = {"h264": "h264_nvenc", "hevc": "hevc_nvenc", "av1": "av1_nvenc"}
ENCODER_THREADS = 4
"""The same on every machine, because the output of H.264 and HEVC encoders depends on the number of threads."""
LARGEST_CRF = 51
TEN_BITS: tuple[Codec, ...] = ("hevc", "av1", "ffv1")
"""Codecs that support 10 bits in every build of their encoder."""
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
"""Codecs that each file suffix supports, the default first."""


@dataclass(frozen=True)
class Encoding:
    """Settings for encoding frames."""

    codec: Codec
    crf: int
    bits: int
    """Bits of a colour component: 8; or 10 in a video, or 16 in numbered images."""
    hardware: bool = False
    """Whether NVENC encodes; `crf` is then its constant quality."""
    preset: str | None = None
    """Speed preset, by the encoder's own name; None is the encoder's default."""
    given_format: str | None = None
    """Pixel format, by FFmpeg's name; None is the default of the codec."""
    has_alpha: bool = False
    """Whether frames have alpha; only for the codecs in `PICTURES`."""

    @property
    def encoder(self) -> str:
        """FFmpeg's name of the encoder."""
        return HARDWARE_ENCODERS[self.codec] if self.hardware else ENCODERS.get(self.codec, LOSSLESS)

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name of the pixel format."""
        if self.given_format:
            return self.given_format
        if self.encoder == LOSSLESS:
            return LOSSLESS_FORMATS[self.bits, self.has_alpha]
        if self.bits > 8:
            return "p010le" if self.hardware else "yuv420p10le"
        return "yuv420p"

    @property
    def options(self) -> dict[str, str]:
        """Options of the encoder, by FFmpeg's names."""
        if self.encoder == LOSSLESS:
            return {}
        options = {"cq" if self.hardware else "crf": str(self.crf)}
        if self.preset is not None:
            options["preset" if self.hardware else PRESETS[self.codec]] = self.preset
        if self.encoder == "libx264" and _has_avx512():
            options["x264-params"] = "asm=avx2"  # with AVX-512, x264 encodes the same frames differently each time
        if self.encoder == "libx265":
            options["x265-params"] = f"log-level=error:pools={ENCODER_THREADS}"
        return options

    @property
    def segment_suffix(self) -> str:
        """Suffix of a segment's file: `.mkv` for FFV1, `.mp4` for all others.

        MP4 keeps times exactly. It also keeps decoding timestamps, which Matroska does not store.
        """
        return ".mkv" if self.encoder == LOSSLESS else ".mp4"

    @property
    def segment_format(self) -> str:
        """FFmpeg's name of a segment's container."""
        return "matroska" if self.encoder == LOSSLESS else "mp4"

    @property
    def segment_options(self) -> dict[str, str]:
        """Options of a segment's container, by FFmpeg's names.

        Every frame is flushed at once, so an unfinished segment can be played after a kill or a full disk.
        """
        if self.encoder == LOSSLESS:
            return {"flush_packets": "1", "cluster_time_limit": "0"}
        return {"flush_packets": "1", "movflags": "frag_every_frame+delay_moov+default_base_moof"}


@cache
def _has_avx512() -> bool:
    """Return whether the processor has AVX-512, on Linux."""
    cpus = Path("/proc/cpuinfo")
    return cpus.exists() and "avx512f" in cpus.read_text()


def usual_codec(output: Path, bits: int) -> Codec:
    """Return the default codec of a result.

    Arguments:
        output: file name of the result.
        bits: of a colour component in the source.
    """
    if is_numbered(output):
        return "numbered"
    codecs = CONTAINERS.get(output.suffix.lower(), ("h264",))
    return next((codec for codec in codecs if codec in TEN_BITS and bits > 8), codecs[0])


def result_bits(output: Path, codec: Codec, bits: int) -> int:
    """Return the bits of a colour component in the result.

    Arguments:
        bits: of a colour component in the source.
    """
    if bits <= 8:
        return 8
    if is_numbered(output):
        return 16 if output.suffix.lower() in WITH_16_BITS else 8
    return 10 if codec in TEN_BITS else 8


def bits_of(pixel_format: str) -> int:
    """Return the bits of a colour component in a pixel format.

    Raises:
        InputError: if FFmpeg does not know the format.
    """
    try:
        return int(import_av().VideoFormat(pixel_format).components[0].bits)
    except ValueError:
        raise InputError(
            f"`pixel_format` {pixel_format} is unknown to FFmpeg: ffmpeg -pix_fmts lists all names"
        ) from None


def has_hardware_encoder(encoding: Encoding, height: int, width: int) -> bool:
    """Return whether NVENC on this machine can encode frames of that size, in pixels."""
    if encoding.codec not in HARDWARE_ENCODERS:
        return False
    return _refusal(replace(encoding, hardware=True), height, width) is None


def check_encoder(encoding: Encoding, height: int, width: int) -> None:
    """Check that the encoder supports the chosen preset and pixel format for frames of that size.

    Raises:
        InputError: if it does not.
    """
    if encoding.preset is None and encoding.given_format is None:
        return
    if encoding.codec in PICTURES or (encoding.preset is not None and encoding.codec not in PRESETS):
        raise InputError(
            f"{encoding.codec} does not support `preset`{' or `pixel_format`' * (encoding.codec in PICTURES)}"
        )
    formats = [found.name for found in import_av().Codec(encoding.encoder, "w").video_formats or ()]
    formats = [name for name in formats if not name.startswith("yuvj")]  # these imply full range, which a tag says here
    if encoding.given_format is not None and encoding.given_format not in formats:
        raise InputError(
            f"`pixel_format` must be one of {', '.join(formats)} for {encoding.encoder}; got {encoding.given_format}"
        )
    refusal = _refusal(encoding, height, width)
    if refusal is not None:
        asked = {"`preset`": encoding.preset, "`pixel_format`": encoding.given_format}
        options = " ".join(f"{option} {value}" for option, value in asked.items() if value is not None)
        raise InputError(f"{encoding.encoder} cannot encode {width}×{height} with {options}: {refusal}")


def check_size(encoding: Encoding, height: int, width: int) -> None:
    """Check that the pixel format and the encoder support frames of that size, in pixels.

    Raises:
        InputError: if one of them does not.
    """
    check_sides(encoding, height, width)
    refusal = _refusal(encoding, height, width)
    if refusal is not None:
        raise wrong_size(encoding, height, width, refusal)


def check_sides(encoding: Encoding, height: int, width: int) -> None:
    """Check that the height and width are even if the pixel format halves the resolution of colours.

    Raises:
        InputError: if one of them is odd.
    """
    chroma = import_av().VideoFormat(encoding.pixel_format, 2, 2)
    if width % (2 // chroma.chroma_width()) or height % (2 // chroma.chroma_height()):
        raise InputError(
            f"frames must have an even width and height, because {encoding.pixel_format} halves the resolution of "
            f"colours; got {width}×{height}: use `pixel_format` yuv444p, or `codec` ffv1, which supports any size"
        )


def wrong_size(encoding: Encoding, height: int, width: int, refusal: str) -> InputError:
    """Return the error for frames of a size that the encoder does not support. `refusal` is the encoder's message."""
    return InputError(f"{encoding.encoder} cannot encode frames of {width}×{height}: {refusal}: use another `codec`")


def _refusal(encoding: Encoding, height: int, width: int) -> str | None:
    """Return why the encoder does not support frames of that size, or None if it does."""
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
    """Check that a result can have that file name with its codec, and that the codec supports the quality.

    Raises:
        InputError: if it cannot.
    """
    codec, suffix = encoding.codec, path.suffix.lower()
    if is_numbered(path):
        check_suffix(path)
    elif suffix not in CONTAINERS:
        *most, last = CONTAINERS
        raise InputError(
            f"{path}: the name must end in {', '.join(most)} or {last}, or be a pattern of images such as %05d.png"
        )
    codecs = ("numbered",) if is_numbered(path) else CONTAINERS[suffix]
    if codec not in codecs:
        way = f"set `codec` to one of {', '.join(codecs)}" if len(codecs) > 1 else "omit `codec`"
        raise InputError(f"{path}: {path.suffix} files cannot contain {codec}: {way}, or use a name that ends in .mkv")
    if codec in ("h264", "hevc") and encoding.crf > LARGEST_CRF:
        raise InputError(f"crf must be at most {LARGEST_CRF} for {codec}; got {encoding.crf}")
