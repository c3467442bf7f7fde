"""Joining of segments to one video without encoding them again, with sound, subtitles and chapters of the source."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from caflow_deploy.video.frame_source import CLOCK, UnwritableVideo, VideoInfo
from caflow_deploy.video.opening import address_of, import_av, open_to_read
from caflow_deploy.video.stream_copy import StreamCopy
from caflow_runtime.file_io.atomic_files import move_into_place

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MATROSKA = (".mkv", ".webm")
QUICKTIME_HEVC = "hvc1"
"""Codec tag of HEVC. QuickTime plays HEVC only with this tag."""


class SegmentPart(NamedTuple):
    """Segment to join."""

    path: Path
    start: int
    """Time at which the first frame is shown, in ticks."""
    frames: int


def join(parts: Sequence[SegmentPart], output: Path, source: str | None, info: VideoInfo) -> list[str]:
    """Write one video from segments, with the sound, subtitles and chapters of a source.

    Arguments:
        source: file or address with sound and subtitles; None if there are none.

    Returns:
        Properties of the source that could not be kept, one line each.
    """
    av = import_av()
    # bitexact: in Matroska, FFmpeg would otherwise write random numbers, so two runs would differ.
    options = {"fflags": "+bitexact"} if output.suffix.lower() in MATROSKA else {}
    with av.open(address_of(output), "w", options=options) as container:
        container.metadata.update(info.metadata)
        with open_to_read(parts[0].path) as first:
            # opaque: without an encoder. Some decoders, such as dav1d for AV1, cannot encode.
            video = container.add_stream_from_template(first.streams.video[0], opaque=True)
        # The template lacks both where the codec does not store them.
        video.codec_context.framerate = info.rate
        if info.sample_aspect_ratio:
            video.codec_context.sample_aspect_ratio = info.sample_aspect_ratio
        if output.suffix.lower() == ".mov" and video.codec_context.name == "hevc":
            video.codec_context.codec_tag = QUICKTIME_HEVC
        along = StreamCopy(container, source, output.suffix, info)
        try:
            for packet in packets_of(parts, info.zero):
                packet.stream = video
                along.carry_until(packet.dts * CLOCK)
                container.mux(packet)
            along.carry_until(None)
        finally:
            along.close()
    return along.lost


def join_what_fits(parts: Sequence[SegmentPart], output: Path, source: str | None, info: VideoInfo) -> list[str]:
    """Write a video like `join`. If FFmpeg refuses the sound and subtitles, write it without them.

    The output is complete or not written at all.

    Raises:
        UnwritableVideo: if the output would not contain all frames of the segments.
        FFmpegError, OSError
    """
    # With a fixed name, the file that a killed process left is overwritten. FFmpeg takes the format from the suffix.
    partial = output.with_name(f".{output.stem}.partial{output.suffix}")
    try:
        lost = _join_what_fits(parts, partial, source, info)
        found, wanted = count_frames(partial), sum(part.frames for part in parts)
        if found != wanted:
            raise UnwritableVideo(f"{output}: {wanted} frames were joined, but the file contains {found}")
        move_into_place(partial, output)
    finally:
        partial.unlink(missing_ok=True)
    return lost


def count_frames(path: Path) -> int:
    """Return the number of frames in a file that this package has written.

    In a damaged file, only the frames before the damage count.
    """
    count = 0
    with suppress(import_av().FFmpegError), open_to_read(path) as container:
        for packet in container.demux(container.streams.video[0]):
            count += packet.size > 0  # the last packet is empty, and only marks the end
    return count


def frames_of(parts: Sequence[SegmentPart]) -> Iterator[Any]:
    """Yield the decoded frames of segments, as PyAV frames."""
    for part in parts:
        with open_to_read(part.path) as segment:
            yield from segment.decode(segment.streams.video[0])


def _join_what_fits(parts: Sequence[SegmentPart], output: Path, source: str | None, info: VideoInfo) -> list[str]:
    try:
        return join(parts, output, source, info)
    except (import_av().FFmpegError, ValueError) as error:
        if source is None or getattr(error, "errno", None) in NO_SPACE:
            raise
        reason = getattr(error, "strerror", None) or error  # the whole text may contain the address, with a password
        left_out = f"sound and subtitles are omitted: {reason}: a name that ends in .mkv may keep them"
        return [left_out, *join(parts, output, None, info)]


def packets_of(parts: Sequence[SegmentPart], zero: int = 0) -> Iterator[Any]:
    """Yield the packets of segments, with times in ticks of `CLOCK` since `zero`."""
    last = None
    for part in parts:
        with open_to_read(part.path) as segment:
            for packet in segment.demux(segment.streams.video[0]):
                if packet.dts is None:
                    continue
                base = Fraction(packet.time_base) / CLOCK
                pts, dts = (round(time * base) + part.start - zero for time in (packet.pts, packet.dts))
                dts = dts if last is None else max(last + 1, dts)
                packet.duration = round((packet.duration or 0) * base)
                packet.pts, packet.dts, packet.time_base, last = pts, min(dts, pts), CLOCK, dts
                yield packet
