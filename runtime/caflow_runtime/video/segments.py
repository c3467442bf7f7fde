"""Segments of a planned video, drawn by any processes in any order, and joined to what `Job` makes of the file alone.

Pictures do not depend on who draws a segment, as noise depends on the scene and on the frame alone. With as many frames
in a segment, and `batch` 1, packets are those of `Job`, byte by byte, where all machines compute alike; in larger
batches, and on other processors, results may differ by rounding. Noise that drifts is drawn from its scene's beginning
on by each segment, without the pictures.
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
from caflow_runtime.video.job import READER_ENDS_S, WAITING_FRAMES
from caflow_runtime.video.lane import Lane
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
from caflow_runtime.video.sink import Encoding, SegmentWriter
from caflow_runtime.video.source import UnreadableVideo, UnwritableVideo, import_av
from caflow_runtime.video.sources import open_video
from caflow_runtime.video.transparency import colours_of, draw_frames
from caflow_runtime.whole_files import move_into_place, partial_path


def draw_segment(
    pipe: Pipeline, source: Path, segment: Segment, settings: StreamSettings, encoding: Encoding, folder: Path
) -> Report:
    """Write one segment's file to a folder, whole or not at all. One that is there, and whole, is not drawn again.

    It is there if it was made of the same plan, bundle, settings and encoding. How the pipeline was opened is not
    compared: give all workers the same, since tiles show in pixels.

    The sample that a scene keeps is chosen on the scene's first frame, for each segment again, so that segments need
    not know of each other; `Stream.skip_to` says what that means where a sample is not finite.

    Raises:
        InputError: if a setting is not what it should be, or the codec cannot hold the result.
        UnreadableVideo: if the source is not the one that was planned.
        UnwritableVideo: if the disk is full, say.
    """
    _check_source(source, segment)
    stream = pipe.open_stream(settings)
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
    """One video of a folder's segments, all or the first ones, with what the source has beside its picture.

    The output is there whole or not at all; the folder stays.

    Arguments:
        cut: what of the source was planned.

    Returns:
        What could not be kept as it was, a line each.

    Raises:
        InputError: if one is missing before others.
        UnwritableVideo: also if all frames were dropped, or if a segment is not what it was when it was drawn.
    """
    ordered = sorted(reports, key=lambda report: report.number)
    for number, report in enumerate(ordered):
        if report.number != number:
            raise InputError(f"{output}: wanted each segment once, from 0 on, got {report.number} in place of {number}")
    drawn = [report for report in ordered if report.start is not None]
    parts = parts_in(folder, [_record(folder, report, encoding) for report in drawn])
    if not parts:
        raise UnwritableVideo(f"{output} was not written: no frame is left")
    opened = open_video(source, cut)
    try:
        return write_result(parts, output, opened.along, opened.info)
    except (OSError, import_av().FFmpegError) as error:
        raise UnwritableVideo(f"{output} cannot be written: {error}") from None


def _record(folder: Path, report: Report, encoding: Encoding) -> Record:
    """Of a segment that is as it was when it was reported."""
    record = read_record(folder, report.number)
    if record is None or msgspec.structs.replace(record.report, drawn=report.drawn) != report:
        path = folder / segment_name(report.number, encoding.segment_suffix)
        raise UnwritableVideo(f"{path} is missing, or has changed since it was drawn: draw it again")
    return record


def _is_of(segment: Segment, record: Record) -> bool:
    """Whether a record is of a segment, and drawn as `draw_segment` does it."""
    frames = (segment.frames.first, len(segment.frames.ticks), "workers")
    return (record.first, record.report.frames, record.drawn_by) == frames


def _check_source(source: Path, segment: Segment) -> None:
    found = source.stat()
    if _hash(source, found.st_size, found.st_mtime_ns) != segment.source:
        raise UnreadableVideo(f"{source} is not the file that was planned: plan it anew")


@lru_cache
def _hash(source: Path, _size: int, _changed: int) -> str:
    """Once for all segments that a process draws."""
    return sha256_of(source)


def _write(
    frames: Iterator[Frame], stream: Stream, source: Path, segment: Segment, encoding: Encoding, path: Path
) -> SegmentCount:
    """Draw a segment's frames to a file, unless all are dropped."""
    info, writer = open_video(source).info, None
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
    chosen_on = colours_of(next(pictures(source, start, has_alpha))) if is_chosen_before else None
    stream.skip_to(first, segment.scene, start.first, chosen_on)


@contextmanager
def _reading_ahead(source: Path, segment: Segment, has_alpha: bool) -> Iterator[Iterator[Image]]:
    """Its pictures, decoded by a thread while others are drawn."""
    lane: Lane[Image] = Lane(WAITING_FRAMES)
    reader = lane.fill(lambda: pictures(source, segment.frames, has_alpha))
    try:
        yield iter(lane)
    finally:
        lane.leave()
        reader.join(READER_ENDS_S)
