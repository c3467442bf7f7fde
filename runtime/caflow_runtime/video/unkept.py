"""Properties of a source's pictures that results do not keep, and that only a decoded frame shows."""

from contextlib import suppress
from itertools import islice
from pathlib import Path

from caflow_runtime.video.opening import import_av, open_to_read

UNKEPT = {
    "MASTERING_DISPLAY_METADATA": "the HDR10 metadata of its display (mastering display) is",
    "CONTENT_LIGHT_LEVEL": "the HDR10 metadata of its brightness (content light level) is",
    "DYNAMIC_HDR_PLUS": "its HDR10+ metadata is",
    "DOVI_METADATA": "its Dolby Vision metadata is",
    "A53_CC": "the closed captions in its pictures are",
}
"""What is lost with side data of a frame, by PyAV's name."""
ALPHA_MODE = "alpha_mode"
"""Tag of VP8 and VP9 with alpha in Matroska and WebM. FFmpeg's own decoders ignore the alpha."""


def unkept_of(source: str, segment: Path) -> list[str]:
    """Return a line for each property of a source's first picture that a segment of the result does not have.

    Arguments:
        source: file or address.
    """
    (found, tags), (kept, _) = _described(source), _described(segment)
    lines = [f"{what} omitted" for name, what in UNKEPT.items() if name in found - kept]
    if tags.get(ALPHA_MODE, tags.get(ALPHA_MODE.upper())) == "1":
        lines.append("transparency is omitted: FFmpeg does not decode it; a copy in FFV1 or ProRes 4444 keeps it")
    return lines


def _described(path: Path | str) -> tuple[set[str], dict[str, str]]:
    """Return the kinds of side data of the first picture, and the tags of the pictures."""
    kinds: set[str] = set()
    tags: dict[str, str] = {}
    with suppress(import_av().FFmpegError), open_to_read(path) as container:
        tags = container.streams.video[0].metadata
        for frame in islice(container.decode(video=0), 1):
            kinds = {side_data.type.name for side_data in frame.side_data}
    return kinds, tags
