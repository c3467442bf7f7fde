"""Segments of a planned video. Any processes draw them in any order, and one process joins them to the video.

The result is the video that `VideoJob` makes in one process: noise depends only on the scene and the frame, not on the
process. If segments are equally long, `batch` is 1 and all machines compute alike, packets are identical byte by byte.
With larger batches, or on other processors, results may differ by rounding. If the noise drifts, each segment computes
the noise from the beginning of its scene, without drawing the frames before the segment.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import msgspec

from caflow_runtime.bundle.reading import describe_file, sha256_of
from caflow_runtime.errors import InputError
from caflow_runtime.image import Image
from caflow_runtime.jobs.folder import settings_of_pipeline
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import Frame, Stream, StreamSettings
from caflow_runtime.video.cut import WHOLE, Cut
from caflow_runtime.video.encoding import Encoding
from caflow_runtime.video.job import READER_ENDS_S, WAITING_FRAMES
from caflow_runtime.video.lane import Lane
from caflow_runtime.video.opening import import_av
from caflow_runtime.video.parts import (
    Record,
    Report,
    VideoSettings,
    parts_in,
    read_record,
    segment_name,
    write_record,
)
from caflow_runtime.video.results import write_result
from caflow_runtime.video.segment_count import SegmentCount
from caflow_runtime.video.segment_plan import Segment, pictures
from caflow_runtime.video.sink import SegmentWriter
from caflow_runtime.video.source import UnreadableVideo, UnwritableVideo, VideoInfo
from caflow_runtime.video.sources import open_video
from caflow_runtime.video.transparency import draw_frames, without_alpha
from caflow_runtime.whole_files import move_into_place, partial_path


def draw_segment(
    pipe: Pipeline, segment: Segment, source: Path, settings: StreamSettings, encoding: Encoding, folder: Path
) -> Report:
    """Draw one segment, and write its file and record to a folder. The file is complete or not written at all.

    A segment whose file is intact is not drawn again if it was made with the same plan, bundle, settings and encoding.
    Pixel budget and overlap are not compared. Use the same values for all workers, because tiles change pixels.

    Each segment chooses a scene's sample on the scene's first frame again, so that segments do not depend on each
    other. `Stream.skip_to` describes the effect if a sample is not finite.

    Raises:
        InputError: if a setting is wrong, or the codec does not support the size of the result.
        UnreadableVideo: if the source has changed since it was planned.
        UnwritableVideo: if writing fails, for example on a full disk.
    """
    _check_source(source, segment)
    stream = Stream(pipe, settings)
    whole = VideoSettings(settings_of_pipeline(pipe), settings, encoding, 0, segment.source, segment.cut)
    found = read_record(folder, segment.number, whole.made_of)
    if found is not None and _is_of(segment, found):
        return msgspec.structs.replace(found.report, drawn=False)
    path = folder / segment_name(segment.number, encoding.segment_suffix)
    partial = partial_path(path)
    try:
        _skip_to(stream, source, segment, encoding.has_alpha)
        with _reading_ahead(source, segment, encoding.has_alpha) as images:
            count = _write(draw_frames(pipe, stream, images), stream, source, segment, encoding, partial)
        if count.written:
            move_into_place(partial, path)
        file = describe_file(folder, path.name) if count.written else None
        record = count.record(segment.number, segment.frames.first, file, "workers", whole.made_of)
        write_record(folder, record)
    except (OSError, import_av().FFmpegError) as error:
        raise UnwritableVideo(f"{path} cannot be written: {error}") from None
    finally:
        partial.unlink(missing_ok=True)
    return record.report


def join_segments(
    reports: Iterable[Report], encoding: Encoding, folder: Path, source: Path, output: Path, cut: Cut = WHOLE
) -> list[str]:
    """Join a folder's segments, all or the first ones, to one video with the source's sound and subtitles.

    The output is complete or not written at all. The folder is not changed.

    Arguments:
        cut: part of the source that was planned.

    Returns:
        Properties of the source that could not be kept, one line each.

    Raises:
        InputError: if a segment is missing before a later one.
        UnwritableVideo: if writing fails, if all frames were dropped, or if a segment has changed since it was drawn.
    """
    ordered = sorted(reports, key=lambda report: report.number)
    for number, report in enumerate(ordered):
        if report.number != number:
            raise InputError(
                f"{output}: expected each segment once, from 0 on; got {report.number} instead of {number}"
            )
    drawn = [report for report in ordered if report.start is not None]
    parts = parts_in(folder, [_record(folder, report, encoding) for report in drawn])
    if not parts:
        raise UnwritableVideo(f"{output} was not written: every frame was dropped")
    opened = open_video(source, cut)
    try:
        return write_result(parts, output, opened.along, opened.info)
    except (OSError, import_av().FFmpegError) as error:
        raise UnwritableVideo(f"{output} cannot be written: {error}") from None


def _record(folder: Path, report: Report, encoding: Encoding) -> Record:
    """Return the record of a segment, after checking that it still matches the report."""
    record = read_record(folder, report.number)
    if record is None or msgspec.structs.replace(record.report, drawn=report.drawn) != report:
        path = folder / segment_name(report.number, encoding.segment_suffix)
        raise UnwritableVideo(f"{path} is missing or has changed since it was drawn: draw the segment again")
    return record


def _is_of(segment: Segment, record: Record) -> bool:
    """Return whether a record belongs to a segment and was written by `draw_segment`."""
    frames = (segment.frames.first, len(segment.frames.ticks), "workers")
    return (record.first, record.report.frames, record.drawn_by) == frames


def _check_source(source: Path, segment: Segment) -> None:
    found = source.stat()
    if _hash(source, found.st_size, found.st_mtime_ns) != segment.source:
        raise UnreadableVideo(f"{source} has changed since it was planned: plan it again")


@lru_cache
def _hash(source: Path, _size: int, _changed: int) -> str:
    """Return the SHA-256 of a file. It is computed once for all segments that a process draws."""
    return sha256_of(source)


@lru_cache
def _info(source: Path, cut: Cut, _sha256: str) -> VideoInfo:
    """Return the properties of a file. It is opened for them once for all segments that a process draws.

    The hash makes a process that outlives a job open a changed file again.
    """
    opened = open_video(source, cut)
    opened.close()
    return opened.info


def _write(
    frames: Iterator[Frame], stream: Stream, source: Path, segment: Segment, encoding: Encoding, path: Path
) -> SegmentCount:
    """Draw a segment's frames to a file, and count them. No file is written if all frames are dropped."""
    info, writer = _info(source, segment.cut, segment.source), None
    count = SegmentCount(stream.draw.n, stream.sample)
    for frame, ticks in zip(frames, segment.frames.ticks, strict=True):
        is_dropped = frame.untypical and stream.settings.untypical == "drop"
        count.add(frame, ticks, is_dropped)
        if is_dropped:
            continue
        if writer is None:
            height, width = frame.pixels.shape[:2]
            writer = SegmentWriter(path, height, width, info, encoding)
        writer.write(frame.pixels, ticks, frame.alpha)
    if writer is not None:
        writer.close()
    return count


def _skip_to(stream: Stream, source: Path, segment: Segment, has_alpha: bool) -> None:
    first, start = segment.frames.first, segment.scene_start
    is_chosen_before = stream.draw.n > 1 and start.first < first
    chosen_on = without_alpha(next(pictures(source, start, has_alpha))) if is_chosen_before else None
    stream.skip_to(first, segment.scene, start.first, chosen_on)


@contextmanager
def _reading_ahead(source: Path, segment: Segment, has_alpha: bool) -> Iterator[Iterator[Image]]:
    """Yield the frames of a segment. A thread decodes them while earlier frames are drawn."""
    lane: Lane[Image] = Lane(WAITING_FRAMES)
    reader = lane.fill(lambda: pictures(source, segment.frames, has_alpha))
    try:
        yield iter(lane)
    finally:
        lane.leave()
        reader.join(READER_ENDS_S)
