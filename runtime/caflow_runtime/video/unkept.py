"""Properties of a source's pictures that results do not keep, and that only a decoded frame shows."""

from contextlib import suppress

from caflow_runtime.video.source import import_av, open_to_read

UNKEPT = {
    "MASTERING_DISPLAY_METADATA": "the HDR10 metadata of its display (mastering display) is",
    "CONTENT_LIGHT_LEVEL": "the HDR10 metadata of its brightness (MaxCLL and MaxFALL) is",
    "DYNAMIC_HDR_PLUS": "its HDR10+ metadata is",
    "DOVI_METADATA": "its Dolby Vision metadata is",
    "A53_CC": "the closed captions in its pictures are",
}
"""What is lost with side data of a frame, by PyAV's name."""
ALPHA_MODE = "alpha_mode"
"""Tag of VP8 and VP9 with alpha in Matroska and WebM. FFmpeg's own decoders ignore the alpha."""


def unkept_of(source: str) -> list[str]:
    """Return a line for each property of a source's first picture that is not kept.

    Arguments:
        source: file or address.
    """
    first, is_transparent = None, False
    with suppress(import_av().FFmpegError), open_to_read(source) as container:
        stream = container.streams.video[0]
        is_transparent = stream.metadata.get(ALPHA_MODE, stream.metadata.get(ALPHA_MODE.upper())) == "1"
        first = next(container.decode(stream), None)
    found = set() if first is None else {side_data.type.name for side_data in first.side_data}
    lines = [f"{what} omitted" for name, what in UNKEPT.items() if name in found]
    if is_transparent:
        lines.append("transparency is omitted: FFmpeg does not decode it; a copy in FFV1 or ProRes 4444 keeps it")
    return lines
