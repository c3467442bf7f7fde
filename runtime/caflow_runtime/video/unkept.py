"""Properties of a source's pictures that results do not keep, and that only a decoded frame shows."""

from contextlib import suppress
from itertools import islice
from pathlib import Path

from caflow_runtime.video.opening import import_av, open_to_read
from caflow_runtime.video.side_data import side_data_of
from caflow_runtime.video.upright import has_alpha

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
    (found, is_alpha_lost, is_interlaced), (kept, *_) = _described(source), _described(segment)
    lines = [f"{what} omitted" for name, what in UNKEPT.items() if name in found - kept]
    if is_alpha_lost:
        lines.append("transparency is omitted: FFmpeg does not decode it; a copy in FFV1 or ProRes 4444 keeps it")
    if is_interlaced:
        lines.append(
            "it is interlaced, so moving edges are combs in the result: deinterlace it first (ffmpeg -vf bwdif)"
        )
    return lines


def _described(path: Path | str) -> tuple[set[str], bool, bool]:
    """Return the first picture's kinds of side data, whether its alpha is ignored, and whether it is interlaced."""
    with suppress(import_av().FFmpegError), open_to_read(path) as container:
        tags = container.streams.video[0].metadata
        is_marked = tags.get(ALPHA_MODE, tags.get(ALPHA_MODE.upper())) == "1"
        for frame in islice(container.decode(video=0), 1):
            is_lost = is_marked and not has_alpha(frame.format)
            return set(side_data_of(frame) or {}), is_lost, bool(frame.interlaced_frame)
    return set(), False, False
