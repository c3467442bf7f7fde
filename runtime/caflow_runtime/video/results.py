"""The segments of a job to its result: a video, an animation, or numbered images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from caflow_runtime.pictures.image_files import WITH_ALPHA
from caflow_runtime.video.animated import has_alpha, write_animation
from caflow_runtime.video.join import VideoPart, frames_of, join_into_place
from caflow_runtime.video.numbered import is_numbered, write_numbered
from caflow_runtime.video.source import VideoInfo, open_to_read

ANIMATIONS = (".gif", ".apng", ".png", ".webp")


def holds_alpha(output: Path) -> bool:
    """Whether what a name says can be transparent: animations, and numbered images of most formats."""
    return output.suffix.lower() in (WITH_ALPHA if is_numbered(output) else ANIMATIONS)


def write_result(parts: Sequence[VideoPart], output: Path, source: str | None, info: VideoInfo) -> list[str]:
    """Write what a job is to write, whole or not at all; of numbered images, each one.

    Arguments:
        source: where sound and subtitles are, if there are any.

    Returns:
        What could not be kept as it was, a line each.

    Raises:
        UnwritableVideo, FFmpegError, OSError
    """
    if is_numbered(output):
        write_numbered((_array(frame) for frame in frames_of(parts)), output)
    elif output.suffix.lower() in ANIMATIONS:
        return [*write_animation(parts, output, info), *_beside_pictures(source)]
    else:
        return join_into_place(parts, output, source, info)
    return _beside_pictures(source)


def _array(frame: Any) -> NDArray[Any]:
    """A frame of PyAV as (H, W, 3) RGB, or (H, W, 4) RGBA: uint8 or, of more bits, uint16."""
    formats = ("rgb48le", "rgba64le") if frame.format.components[0].bits > 8 else ("rgb24", "rgba")
    image: NDArray[Any] = frame.to_ndarray(format=formats[has_alpha(frame)])
    return image


def _beside_pictures(source: str | None) -> list[str]:
    """What a source has that pictures cannot hold."""
    if source is None:
        return []
    with open_to_read(source) as container:
        others = [stream.type for stream in container.streams if stream.type in ("audio", "subtitle")]
    return [f"{kind} is left out: give a name ending in .mp4 or .mkv to keep it" for kind in dict.fromkeys(others)]
