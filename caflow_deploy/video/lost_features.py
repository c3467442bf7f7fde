"""Properties of a source's pictures that results do not keep, and that only a decoded frame shows."""

from collections.abc import Set
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from caflow_deploy.video.opening import import_av, open_to_read
from caflow_deploy.video.rotation import has_alpha
from caflow_deploy.video.side_data import side_data_of

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
    is_interlaced: bool = False


def _described(path: Path | str) -> _Described:
    with suppress(import_av().FFmpegError), open_to_read(path) as container:
        stream = container.streams.video[0]
        is_marked = stream.metadata.get(ALPHA_MODE, stream.metadata.get(ALPHA_MODE.upper())) == "1"
        for frame in islice(container.decode(stream), 1):
            is_clear = has_alpha(frame.format)
            return _Described(
                side_data=set(side_data_of(frame) or {}),
                ignores_alpha=is_marked and not is_clear,
                has_alpha=is_clear and stream.codec_context.name != "rawvideo",  # see FileSource
                is_interlaced=bool(frame.interlaced_frame),
            )
    return _Described()
