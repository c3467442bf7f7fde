"""Writing of segments as an animated GIF, PNG or WebP, with FFmpeg's encoders. One frame is in memory at a time."""

import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from caflow_deploy.video.frame_source import CLOCK, VideoInfo
from caflow_deploy.video.join import SegmentPart, frames_of, packets_of
from caflow_deploy.video.opening import address_of, import_av
from caflow_deploy.video.rotation import has_alpha
from caflow_runtime.file_io.atomic_files import atomic_file

GIF_UNIT, WEBP_UNIT = Fraction(1, 100), Fraction(1, 1000)
"""Units in which the formats count times, in seconds."""
GIF_LEAST = 2
"""Shortest duration of a GIF's frame, in units. Browsers show a shorter frame for ten units."""
MATROSKA_ROUNDS = 90
"""Ticks in a millisecond, to which Matroska rounds: times in segments differ from the source's times by less."""
WEBP_QUALITY = "90"
"""Quality from 0 to 100."""
ANIMATION_FRAME = b"ANMF"
FRAME_DURATION = slice(20, 23)
"""Bytes of the duration in such a chunk, in ms: after 4 bytes of name, 4 of length, and 12 of position and size."""


def write_animation(parts: Sequence[SegmentPart], output: Path, info: VideoInfo) -> list[str]:
    """Write the frames of segments, which must be FFV1, as an animation. It is complete or not written at all.

    Returns:
        Properties of the source that could not be kept, one line each.

    Raises:
        FFmpegError, OSError
    """
    write = {".gif": _write_gif, ".webp": _write_webp}.get(output.suffix.lower(), _write_apng)
    times = [packet.pts for packet in packets_of(parts)]
    with atomic_file(output) as partial:
        return write(parts, partial, info, times)


def last_duration(times: Sequence[int], info: VideoInfo) -> int:
    """Return the ticks for which the last frame is shown: as in the source if known, or else by the frame rate."""
    usual = round(1 / (info.rate * CLOCK))
    is_known = info.last_frame is not None and abs(info.last_frame[0] - times[-1]) < MATROSKA_ROUNDS
    shown = info.last_frame[1] if info.last_frame and is_known else usual
    return shown if info.cut.end is None else min(shown, info.origin + info.cut.end - times[-1])


def _write_gif(parts: Sequence[SegmentPart], path: Path, info: VideoInfo, times: Sequence[int]) -> list[str]:
    """Write a GIF with one palette for all frames, so that parts that do not move keep their colours."""
    starts = _starts(times, GIF_UNIT, GIF_LEAST)
    plays = info.plays or 0
    last = max(GIF_LEAST, round(last_duration(times, info) * CLOCK / GIF_UNIT))
    options = {"loop": str(-1 if plays == 1 else max(0, plays - 1)), "final_delay": str(last)}
    painted = _painted(frames_of(parts), starts, _palette(parts))
    with _animation(path, "gif", options) as container:
        _encode(container, "gif", painted, GIF_UNIT, info)
    left_out = starts.count(None)
    return [f"{left_out} frames are omitted: a GIF can show at most 50 frames per second"] if left_out else []


def _write_apng(parts: Sequence[SegmentPart], path: Path, info: VideoInfo, times: Sequence[int]) -> list[str]:
    delay = last_duration(times, info) * CLOCK
    options = {"plays": str(info.plays or 0), "final_delay": str(delay.limit_denominator(2**16 - 1))}
    frames = (frame.reformat(format="rgba" if has_alpha(frame.format) else "rgb24") for frame in frames_of(parts))
    with _animation(path, "apng", options) as container:
        _encode(container, "apng", _at(frames, [time - times[0] for time in times]), CLOCK, info)
    return []


def _write_webp(parts: Sequence[SegmentPart], path: Path, info: VideoInfo, times: Sequence[int]) -> list[str]:
    frames = (frame.reformat(format="bgra") for frame in frames_of(parts))
    with _animation(path, "webp", {"loop": str(info.plays or 0)}) as container:
        starts = _starts(times, WEBP_UNIT, 1)
        _encode(container, "libwebp_anim", _at(frames, starts), WEBP_UNIT, info, quality=WEBP_QUALITY)
    _set_last_duration(path, round(last_duration(times, info) * CLOCK / WEBP_UNIT))
    return []


def _starts(times: Sequence[int], unit: Fraction, least: int) -> list[int | None]:
    """Return the time of each frame, in units since the first frame.

    None marks a frame to skip: it would come less than `least` units after the last frame that is shown.
    """
    starts: list[int | None] = []
    last = -least
    for time in times:
        start = round((time - times[0]) * CLOCK / unit)
        is_shown = start - last >= least
        starts.append(start if is_shown else None)
        last = start if is_shown else last
    return starts


def _at(frames: Iterator[Any], starts: Sequence[int | None]) -> Iterator[Any]:
    """Yield the frames that have a time, with that time as timestamp."""
    for frame, start in zip(frames, starts, strict=False):
        if start is not None:
            frame.pts = start
            yield frame


def _palette(parts: Sequence[SegmentPart]) -> Any:
    """Return the 256 colours that fit all frames best, as a PyAV frame of 16×16."""
    graph, source, frames = import_av().filter.Graph(), None, frames_of(parts)
    for number, frame in enumerate(frames):
        picture = frame.reformat(format="bgra")
        if source is None:
            source = graph.add_buffer(width=picture.width, height=picture.height, format="bgra", time_base=GIF_UNIT)
            graph.link_nodes(source, graph.add("palettegen"), graph.add("buffersink")).configure()
        picture.pts, picture.time_base = number, GIF_UNIT
        source.push(picture)
    graph.push(None)
    return graph.pull()


def _painted(frames: Iterator[Any], starts: Sequence[int | None], palette: Any) -> Iterator[Any]:
    """Yield frames in the palette's colours. Only the part that has changed since the last frame is dithered again."""
    graph, source = import_av().filter.Graph(), None
    for frame in _at((frame.reformat(format="bgra") for frame in frames), starts):
        frame.time_base = GIF_UNIT
        if source is None:
            source = graph.add_buffer(width=frame.width, height=frame.height, format="bgra", time_base=GIF_UNIT)
            colours = graph.add_buffer(width=16, height=16, format="bgra", time_base=GIF_UNIT)
            paint = graph.add("paletteuse", "dither=sierra2_4a:diff_mode=rectangle")
            source.link_to(paint, 0, 0)
            colours.link_to(paint, 0, 1)
            paint.link_to(graph.add("buffersink"))
            graph.configure()
            palette.pts, palette.time_base = 0, GIF_UNIT
            colours.push(palette)
            colours.push(None)
        source.push(frame)
        yield graph.pull()


def _animation(path: Path, kind: str, options: dict[str, str]) -> Any:
    return import_av().open(address_of(path), "w", kind, options=options)


def _encode(container: Any, codec: str, frames: Iterator[Any], unit: Fraction, info: VideoInfo, **options: str) -> None:
    stream = None
    for frame in frames:
        if stream is None:
            stream = container.add_stream(codec, rate=info.rate, options=options)
            stream.height, stream.width, stream.pix_fmt = frame.height, frame.width, frame.format.name
            stream.codec_context.time_base = unit
        frame.time_base = unit
        container.mux(stream.encode(frame))
    if stream is not None:
        container.mux(stream.encode())


def _set_last_duration(path: Path, milliseconds: int) -> None:
    """Set the last frame's duration in a WebP file. FFmpeg leaves it to libwebp, which uses the mean of the others."""
    contents = bytearray(path.read_bytes())
    place, last = 12, None
    while place + 8 <= len(contents):
        name, size = struct.unpack_from("<4sI", contents, place)
        last = place if name == ANIMATION_FRAME else last
        place += 8 + size + size % 2
    if last is not None:
        contents[last + FRAME_DURATION.start : last + FRAME_DURATION.stop] = milliseconds.to_bytes(3, "little")
        path.write_bytes(contents)
