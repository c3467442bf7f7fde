"""Segments of a planned video, drawn by any processes in any order, and joined to what `Job` makes of the file alone.

Pictures do not depend on who draws a segment, as noise depends on the scene and on the frame alone. With as many frames
in a segment, and `batch` 1, packets are those of `Job`, byte by byte, where all machines compute alike; in larger
batches, and on other processors, results may differ by rounding. Noise that drifts is drawn from its scene's beginning
on by each segment, without the pictures.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

import msgspec
import numpy as np

from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest import File
from caflow_runtime.bundle.reading import describe_file, sha256_of
from caflow_runtime.errors import InputError
from caflow_runtime.image import Image
from caflow_runtime.jobs.folder import is_intact
from caflow_runtime.judge.calibration import NAME as CALIBRATION
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import REJECTED
from caflow_runtime.pipeline.stream import Stream, StreamSettings
from caflow_runtime.seal import is_sealed, sealed
from caflow_runtime.strict_json import WrongJson, read_json
from caflow_runtime.video.job import READER_ENDS_S, WAITING_FRAMES
from caflow_runtime.video.join import Part, join_what_fits
from caflow_runtime.video.lane import Lane
from caflow_runtime.video.segment_plan import Segment, pictures
from caflow_runtime.video.sink import Encoding, SegmentWriter, to_disk
from caflow_runtime.video.source import FileSource, UnreadableVideo, UnwritableVideo, import_av

KEPT = ".json"


class Report(msgspec.Struct, frozen=True):
    """What became of a segment."""

    number: int
    frames: int
    """Of the source."""
    rejected: int
    untypical: int
    sample: int
    """Of the last frame."""
    bits_per_dim: float | None
    """Mean of the frames that are not rejected; None where all are."""
    start: int | None
    """Ticks of its file's first frame; None where all frames are left out, and there is no file."""
    drawn: bool = True
    """Whether it was drawn now; False where it was there."""


class Kept(msgspec.Struct, frozen=True):
    """A JSON file beside a segment's file, once that is whole."""

    report: Report
    file: File | None
    """None where all frames are left out."""
    frames: int
    """In the file."""
    made_of: str
    """Hash of the plan, the bundle, the settings and the encoding."""
    sha256: str = ""
    """Of all other fields (`seal`)."""


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
    path, made_of = _path(folder, segment.number, encoding), _made_of(pipe, segment, settings, encoding)
    if (found := _found(path, made_of)) is not None:
        return msgspec.structs.replace(found, drawn=False)
    try:
        with _whole(path, _unique(path)) as partial:
            report, frames = _draw(stream, source, segment, encoding, settings.untypical == "drop", partial)
        file = None if report.start is None else describe_file(folder, path.name)
        with _whole(path.with_suffix(KEPT), _unique(path)) as partial:
            partial.write_bytes(msgspec.json.encode(sealed(Kept(report, file, frames, made_of))))
    except (OSError, import_av().FFmpegError) as error:
        raise UnwritableVideo(f"{path} cannot be written: {error}") from None
    return report


def join_segments(reports: Iterable[Report], encoding: Encoding, folder: Path, source: Path, output: Path) -> list[str]:
    """One video of a folder's segments, all or the first ones, with what the source has beside its picture.

    The output is there whole or not at all; the folder stays.

    Returns:
        What could not be kept as it was, a line each.

    Raises:
        InputError: if one is missing before others.
        UnwritableVideo: also if all frames were left out, or if a segment is not what it was when it was drawn.
    """
    ordered = sorted(reports, key=lambda report: report.number)
    for number, report in enumerate(ordered):
        if report.number != number:
            raise InputError(f"{output}: wanted each segment once, from 0 on, got {report.number} in place of {number}")
    parts = [_part(_path(folder, report.number, encoding)) for report in ordered if report.start is not None]
    if not parts:
        raise UnwritableVideo(f"{output} was not written: no frame is left")
    try:
        # A name that is always the same: where this is killed, the next one takes its place.
        with _whole(output, output.with_name(f".{output.stem}.partial{output.suffix}")) as partial:
            opened = FileSource(source)
            return join_what_fits(parts, partial, opened.along, opened.info)
    except (OSError, import_av().FFmpegError) as error:
        raise UnwritableVideo(f"{output} cannot be written: {error}") from None


def _path(folder: Path, number: int, encoding: Encoding) -> Path:
    return folder / f"{number:05d}{encoding.segment_suffix}"


def _made_of(pipe: Pipeline, segment: Segment, settings: StreamSettings, encoding: Encoding) -> str:
    bundle = [sha256_of(pipe.folder / MANIFEST)]
    if settings.min_typicality > 0 or settings.draw.rank == "typical":
        bundle.append(sha256_of(pipe.folder / CALIBRATION))
    return hashlib.sha256(msgspec.json.encode((segment, bundle, settings, encoding))).hexdigest()


def _found(path: Path, made_of: str) -> Report | None:
    """What is there and whole."""
    kept = _kept(path)
    return None if kept is None or kept.made_of != made_of else kept.report


def _part(path: Path) -> Part:
    kept = _kept(path)
    if kept is None or kept.report.start is None:
        raise UnwritableVideo(f"{path} is missing, or has changed since it was drawn: draw it again")
    return Part(path, kept.report.start, kept.frames)


def _kept(path: Path) -> Kept | None:
    """What is known of a segment that is as it was when it was drawn."""
    try:
        kept = read_json(path.with_suffix(KEPT), Kept)
    except (FileNotFoundError, WrongJson):
        return None
    if not is_sealed(kept):
        return None
    if kept.file is None:
        return kept if kept.report.start is None else None
    return kept if kept.file.path == path.name and is_intact(path.parent, kept.file) else None


def _check_source(source: Path, segment: Segment) -> None:
    found = source.stat()
    if _hash(source, found.st_size, found.st_mtime_ns) != segment.source:
        raise UnreadableVideo(f"{source} is not the file that was planned: plan it anew")


@lru_cache
def _hash(source: Path, _size: int, _changed: int) -> str:
    """Once for all segments that a process draws."""
    return sha256_of(source)


def _unique(path: Path) -> Path:
    """A name beside, that no other process has."""
    return path.with_name(f".{uuid4().hex}{path.suffix}")


@contextmanager
def _whole(path: Path, partial: Path) -> Iterator[Path]:
    """`partial`, whose file takes that path's place at the end, if there is one."""
    try:
        yield partial
        if partial.exists():
            to_disk(partial)
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _draw(
    stream: Stream, source: Path, segment: Segment, encoding: Encoding, drops: bool, path: Path
) -> tuple[Report, int]:
    """Draw a segment's frames to a file, and say how many are in it."""
    _skip_to(stream, source, segment)
    info, writer, start = FileSource(source).info, None, None
    rejected, untypical, sample, bits_per_dim = 0, 0, REJECTED, []
    with _reading_ahead(source, segment) as images:
        for frame, ticks in zip(stream(images), segment.frames.ticks, strict=True):
            rejected, untypical, sample = rejected + frame.rejected, untypical + frame.untypical, frame.sample
            if not frame.rejected:
                bits_per_dim.append(frame.bits_per_dim)
            if frame.untypical and drops:
                continue
            if writer is None:
                height, width = frame.pixels.shape[:2]
                writer, start = SegmentWriter(path, height, width, info, encoding), ticks
            writer.write(frame.pixels, ticks)
    if writer is not None:
        writer.close()
    mean = float(np.mean(bits_per_dim)) if bits_per_dim else None
    report = Report(segment.number, len(segment.frames.ticks), rejected, untypical, sample, mean, start)
    return report, 0 if writer is None else writer.frames


def _skip_to(stream: Stream, source: Path, segment: Segment) -> None:
    first, start = segment.frames.first, segment.scene_start
    chosen_on = next(pictures(source, start)) if stream.draw.n > 1 and start.first < first else None
    stream.skip_to(first, segment.scene, start.first, chosen_on)


@contextmanager
def _reading_ahead(source: Path, segment: Segment) -> Iterator[Iterator[Image]]:
    """Its pictures, decoded by a thread while others are drawn."""
    lane: Lane[Image] = Lane(WAITING_FRAMES)
    reader = lane.fill(lambda: pictures(source, segment.frames))
    try:
        yield iter(lane)
    finally:
        lane.leave()
        reader.join(READER_ENDS_S)
