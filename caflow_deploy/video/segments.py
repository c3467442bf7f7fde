"""Segments of a video: a file for each, which any process can draw without the others.

Noise depends only on the scene and the frame, so a segment is the same whether a process draws it after the segments
before it (`job.py`) or alone (`draw_segment`). Packets are identical byte by byte if `batch` is 1 and all machines
compute alike. With larger batches, or on other processors, results may differ by rounding. If the noise drifts,
`draw_segment` computes it from the beginning of the scene, without drawing the frames before the segment.
"""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from caflow_deploy.jobs.folder import is_intact
from caflow_deploy.video.any_source import open_video
from caflow_deploy.video.bounded_queue import WAITING_FRAMES, read_ahead
from caflow_deploy.video.encoding import Encoding
from caflow_deploy.video.frame_source import Source, TimeRange, UnreadableVideo, UnwritableVideo, VideoInfo
from caflow_deploy.video.opening import import_av
from caflow_deploy.video.results import cut_to, write_result
from caflow_deploy.video.segment_plan import Segment, pictures
from caflow_deploy.video.segment_store import SegmentRecord, files_of, segment_name
from caflow_deploy.video.sink import SegmentWriter
from caflow_deploy.video.transparency import draw_frames, without_alpha
from caflow_runtime.bundle.manifest import File
from caflow_runtime.bundle.reading import describe_file, sha256_of
from caflow_runtime.errors import InputError
from caflow_runtime.file_io.atomic_files import move_into_place, partial_path
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.results import REJECTED
from caflow_runtime.pipeline.stream import Frame, Stream, StreamSettings


@dataclass
class SegmentFile:
    """Segment that is being drawn: counts its frames, and encodes them in another thread."""

    path: Path
    info: VideoInfo
    encoding: Encoding
    drops_untypical: bool
    """Whether untypical frames are omitted."""
    frames: int = 0
    written: int = 0
    start: int | None = None
    """Ticks of the first frame that was written."""
    failure: Exception | None = None
    """Why a frame could not be written."""
    _rejected: int = 0
    _untypical: int = 0
    _bits_per_dim: list[float] = field(default_factory=list)
    _encoder: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    _waiting: deque[Future[None]] = field(default_factory=deque)
    _writer: SegmentWriter | None = None

    def add(self, frame: Frame, ticks: int) -> None:
        """Add the next frame.

        Arguments:
            ticks: presentation timestamp, in ticks of `CLOCK`.

        Raises:
            InputError: if the codec does not support the size of the frame.
            FFmpegError, OSError: if an earlier frame could not be written.
        """
        self.frames += 1
        self._rejected += frame.rejected
        self._untypical += frame.untypical
        if not frame.rejected:
            self._bits_per_dim.append(frame.bits_per_dim)
        if not (frame.untypical and self.drops_untypical):
            self._waiting.append(self._encoder.submit(self._encode, frame, ticks))
        if len(self._waiting) > WAITING_FRAMES:
            self._waiting.popleft().result()

    def close(self) -> None:
        """Finish the file. There is no file if no frame was written.

        Raises:
            InputError, FFmpegError, OSError: as `add`.
        """
        with self._encoder:
            while self._waiting:
                self._waiting.popleft().result()
            writer, self._writer = self._writer, None
            if writer is not None:
                self._encoder.submit(self._close, writer).result()

    def record(self, number: int, first: int, sample: int | None, file: File | None) -> SegmentRecord:
        """Return the record of the segment, whose file is closed.

        Arguments:
            first: number of its first frame.
            sample: `Stream.sample` after its last frame.
            file: description of its file, if there is one.
        """
        mean = float(np.mean(self._bits_per_dim)) if self._bits_per_dim else None
        counts = self.frames, self.written, self._rejected, self._untypical
        return SegmentRecord(number, first, *counts, REJECTED if sample is None else sample, mean, self.start, file)

    def _encode(self, frame: Frame, ticks: int) -> None:
        """Write a frame; runs in the encoder's thread."""
        try:
            if self._writer is None:
                self.path.unlink(missing_ok=True)  # damaged, or incomplete
                height, width = frame.pixels.shape[:2]
                self._writer = SegmentWriter(self.path, height, width, self.info, self.encoding)
            self._writer.write(frame.pixels, ticks, frame.alpha)
        except Exception as error:
            self.failure = error
            raise
        self.written += 1
        self.start = ticks if self.start is None else self.start

    def _close(self, writer: SegmentWriter) -> None:
        try:
            writer.close()
        except Exception as error:
            self.failure = error
            raise


def draw_segment(
    pipe: Pipeline, segment: Segment, source: Path, settings: StreamSettings, encoding: Encoding, folder: Path
) -> SegmentRecord:
    """Draw one segment of a planned video, and write its file to a folder, completely or not at all.

    A scene's sample is chosen again on the scene's first frame, so that segments do not depend on each other.

    Raises:
        InputError: if a setting is wrong, or the codec does not support the size of the result.
        UnreadableVideo: if the source has changed since it was planned.
        UnwritableVideo: if writing fails, for example on a full disk.
    """
    _check_source(source, segment)
    stream = Stream(pipe, settings)
    path = folder / segment_name(segment.number, encoding.segment_suffix)
    partial = partial_path(path)
    info = _info(source, segment.cut, segment.source)
    file = SegmentFile(partial, info, encoding, settings.draw.otherwise == "drop")
    try:
        _skip_to(stream, source, segment, encoding.has_alpha)
        with read_ahead(lambda: pictures(source, segment.frames, encoding.has_alpha)) as images:
            drawn = draw_frames(pipe, stream, images)
            for frame, ticks in zip(drawn, segment.frames.ticks, strict=True):
                file.add(frame, ticks)
        file.close()
        if file.written:
            move_into_place(partial, path)
        described = describe_file(folder, path.name) if file.written else None
    except (OSError, import_av().FFmpegError) as error:
        raise UnwritableVideo(f"{path} cannot be written: {error}") from None
    finally:
        partial.unlink(missing_ok=True)
    return file.record(segment.number, segment.frames.first, stream.sample, described)


def join_segments(
    records: Iterable[SegmentRecord], folder: Path, source: Source, output: Path, is_whole: bool = True
) -> list[str]:
    """Join the segments of a folder, all or the first ones, to one video with the source's sound and subtitles.

    The output is complete or not written at all. The folder is not changed.

    Arguments:
        is_whole: whether these are all segments of the source. Otherwise its sound ends with the last segment.

    Returns:
        Properties of the source that could not be kept, one line each.

    Raises:
        InputError: if a segment is missing before a later one.
        UnwritableVideo: if writing fails, if all frames were dropped, or if a segment has changed since it was drawn.
    """
    ordered = sorted(records, key=lambda record: record.number)
    for number, record in enumerate(ordered):
        if record.number != number:
            raise InputError(
                f"{output}: expected each segment once, from 0 on; got {record.number} instead of {number}"
            )
        if record.file is not None and not is_intact(folder, record.file):
            raise UnwritableVideo(
                f"{output} cannot be written: segment {number} in {folder} has changed since it was finished"
            )
    parts = files_of(folder, ordered)
    if not parts:
        raise UnwritableVideo(f"{output} was not written: every frame was dropped")
    try:
        info = source.info if is_whole else cut_to(parts, source.info)
        return write_result(parts, output, source.along, info)
    except (OSError, import_av().FFmpegError) as error:
        raise UnwritableVideo(f"{output} cannot be written: {error}") from None


def _check_source(source: Path, segment: Segment) -> None:
    found = source.stat()
    if _hash(source, found.st_size, found.st_mtime_ns) != segment.source:
        raise UnreadableVideo(f"{source} has changed since it was planned: plan it again")


@lru_cache
def _hash(source: Path, _size: int, _changed: int) -> str:
    """Return the SHA-256 of a file. It is computed once for all segments that a process draws."""
    return sha256_of(source)


@lru_cache
def _info(source: Path, cut: TimeRange, _sha256: str) -> VideoInfo:
    """Return the properties of a file. It is opened for them once for all segments that a process draws.

    The hash makes a process that outlives a job open a changed file again.
    """
    opened = open_video(source, cut)
    opened.close()
    return opened.info


def _skip_to(stream: Stream, source: Path, segment: Segment, has_alpha: bool) -> None:
    first, start = segment.frames.first, segment.scene_start
    is_chosen_before = stream.config.number > 1 and start.first < first
    chosen_on = without_alpha(next(pictures(source, start, has_alpha))) if is_chosen_before else None
    stream.skip_to(first, segment.scene, start.first, chosen_on)
