"""Conversion of a job's segments to the result: a video, an animation, or numbered images."""

from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from numpy.typing import NDArray

from caflow_deploy.images.image_files import WITH_ALPHA
from caflow_deploy.video.animated import write_animation
from caflow_deploy.video.frame_source import CLOCK, VideoInfo
from caflow_deploy.video.join import SegmentPart, frames_of, join_what_fits, packets_of
from caflow_deploy.video.numbered import is_numbered, write_numbered
from caflow_deploy.video.opening import import_av, open_to_read
from caflow_deploy.video.rotation import has_alpha
from caflow_deploy.video.side_data import side_data_of

ANIMATIONS = (".gif", ".apng", ".png", ".webp")
SQUARE = (None, 1)
"""Aspect ratios of square pixels; None is an unknown one."""
UNKEPT = {
    "MASTERING_DISPLAY_METADATA": "the HDR10 metadata of its display (mastering display) is",
    "CONTENT_LIGHT_LEVEL": "the HDR10 metadata of its brightness (content light level) is",
    "DYNAMIC_HDR_PLUS": "its HDR10+ metadata is",
    "DOVI_METADATA": "its Dolby Vision metadata is",
    "A53_CC": "the closed captions in its pictures are",
}
"""What is lost with side data of a frame, by PyAV's name."""
ALPHA_MODE = "alpha_mode"
"""Tag of pictures with alpha in Matroska and WebM. FFmpeg's own decoders of VP8 and VP9 ignore the alpha."""


def holds_alpha(output: Path) -> bool:
    """Return whether a result of that name can be transparent: animations, and numbered images in most formats."""
    return output.suffix.lower() in (WITH_ALPHA if is_numbered(output) else ANIMATIONS)


def write_result(parts: Sequence[SegmentPart], output: Path, source: str | None, info: VideoInfo) -> list[str]:
    """Write the result of a job. It is complete or not written at all; for numbered images, this holds for each image.

    Arguments:
        source: file or address with sound and subtitles; None if there are none.

    Returns:
        Properties of the source that could not be kept, one line each.

    Raises:
        UnwritableVideo, FFmpegError, OSError
    """
    unkept = [] if source is None else unkept_of(source, parts[0].path)
    is_video = not is_numbered(output) and output.suffix.lower() not in ANIMATIONS
    if is_video:
        unkept = [*join_what_fits(parts, output, source, info), *unkept]
    elif is_numbered(output):
        write_numbered((_array(frame) for frame in frames_of(parts)), output)
    else:
        unkept += write_animation(parts, output, info)
    aspect = info.sample_aspect_ratio
    if aspect not in SQUARE and not (is_video and _has_wide_pixels(output)):
        unkept.append(f"the shape of its pixels ({aspect}) is omitted: use a name that ends in .mp4 to keep it")
    return unkept if is_video else [*unkept, *_beside_pictures(source)]


def cut_to(parts: Sequence[SegmentPart], info: VideoInfo) -> VideoInfo:
    """Return the properties of a source whose sound, subtitles and chapters end with the pictures of segments."""
    last = max(packet.pts for packet in packets_of(parts[-1:]))
    end = last + round(1 / (info.rate * CLOCK)) - info.origin
    return replace(info, cut=msgspec.structs.replace(info.cut, end=end))


def _array(frame: Any) -> NDArray[Any]:
    """Return a PyAV frame as (H, W, 3) RGB or (H, W, 4) RGBA: uint8, or uint16 for more than 8 bits."""
    formats = ("rgb48le", "rgba64le") if frame.format.components[0].bits > 8 else ("rgb24", "rgba")
    image: NDArray[Any] = frame.to_ndarray(format=formats[has_alpha(frame.format)])
    return image


def _beside_pictures(source: str | None) -> list[str]:
    """Return a line for each kind of stream that animations and numbered images cannot contain."""
    if source is None:
        return []
    with open_to_read(source) as container:
        others = [stream.type for stream in container.streams if stream.type in ("audio", "subtitle")]
    return [f"{kind} is omitted: use a name that ends in .mp4 or .mkv to keep it" for kind in dict.fromkeys(others)]


def _has_wide_pixels(video: Path) -> bool:
    """Return whether a video says that its pixels are not square. FFmpeg does not write this with all codecs."""
    with open_to_read(video) as container:
        return container.streams.video[0].sample_aspect_ratio not in SQUARE


def unkept_of(source: str, segment: Path) -> list[str]:
    """Return a line for each property of a source's first picture that a segment of the result does not have.

    Arguments:
        source: file or address.
    """
    found, kept = _described(source), _described(segment)
    lines = [f"{what} omitted" for name, what in UNKEPT.items() if name in found.side_data - kept.side_data]
    if found.ignores_alpha:
        lines.append("transparency is omitted: FFmpeg does not decode it; a copy in FFV1 or ProRes 4444 keeps it")
    if found.has_alpha and not kept.has_alpha:
        lines.append("transparency is omitted, with white behind it: numbered images in .png keep it")
    if (found.chroma_of_two, kept.chroma_of_two) == (2, 1):
        lines.append("chroma is reduced to half the width and height: --pixel-format yuv444p keeps all of it")
    if found.is_interlaced:
        lines.append(
            "it is interlaced, so moving edges are combs in the result: deinterlace it first (ffmpeg -vf bwdif)"
        )
    return lines


class _Described(NamedTuple):
    """Description of the first picture of a video."""

    side_data: Set[str] = frozenset()
    ignores_alpha: bool = False
    """Whether its decoder ignores its alpha."""
    has_alpha: bool = False
    chroma_of_two: int | None = None
    """Number of chroma values for two pixels side by side; None without chroma, as in grey and RGB pictures."""
    is_interlaced: bool = False


def _described(path: Path | str) -> _Described:
    with suppress(import_av().FFmpegError), open_to_read(path) as container:
        stream = container.streams.video[0]
        is_marked = stream.metadata.get(ALPHA_MODE, stream.metadata.get(ALPHA_MODE.upper())) == "1"
        for frame in islice(container.decode(stream), 1):
            is_clear, has_chroma = has_alpha(frame.format), len(frame.format.components) > 2 and not frame.format.is_rgb
            return _Described(
                side_data=set(side_data_of(frame) or {}),
                ignores_alpha=is_marked and not is_clear,
                has_alpha=is_clear and stream.codec_context.name != "rawvideo",  # see FileSource
                chroma_of_two=frame.format.chroma_width(2) if has_chroma else None,
                is_interlaced=bool(frame.interlaced_frame),
            )
    return _Described()
