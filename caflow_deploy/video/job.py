"""Job that makes a video file from another video, in segments.

In one process, reading, drawing and encoding run at the same time, and the source is read once. Workers draw planned
segments (`segment_plan.py`) instead. Both write the same segments, so a stop loses at most those that are unfinished.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

from caflow_deploy.images.file_search import JOB_FILE
from caflow_deploy.jobs.folder import exclusive_lock
from caflow_deploy.video.bounded_queue import BoundedQueue, read_ahead
from caflow_deploy.video.frame_source import Source, TimedFrame, UnwritableVideo, resized
from caflow_deploy.video.numbered import numbers_of
from caflow_deploy.video.opening import import_av
from caflow_deploy.video.segment_lengths import first_frame, frames_of_segment
from caflow_deploy.video.segment_store import (
    SegmentRecord,
    VideoSettings,
    VideoState,
    find_video_job,
    first_missing,
    first_segments,
    folder_of,
    open_folder,
    open_journal,
    read_segments,
    remove_segments,
    resume_segments,
    segment_name,
)
from caflow_deploy.video.segments import SegmentFile, join_segments
from caflow_deploy.video.transparency import draw_frames, without_alpha
from caflow_runtime.bundle.reading import describe_file
from caflow_runtime.errors import CaflowError, InputError
from caflow_runtime.file_io.atomic_files import to_disk
from caflow_runtime.image_arrays import Image
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import Frame, Stream

TakeFrame = Callable[[Frame, TimedFrame], None]
"""Callback that receives each finished frame, and the frame of the source that it was made from."""
ShowDropped = Callable[[int], None]
"""Callback that receives the number of frames that a live source has dropped since the last call."""


def where_resumed(finished: int) -> str:
    """Return where the same command continues a stopped job, of which `finished` frames are in finished segments."""
    if not finished:
        return "starts at the beginning, because no segment is finished"
    return f"resumes after frame {finished}, the end of the last finished segment"


class TooFewFrames(InputError):
    """The source has fewer frames than the segments that are finished."""


COUNTS = ("frames", "written", "rejected", "untypical")
"""Numbers of frames that a stopped job records about its output."""


@dataclass
class VideoOutcome:
    """Counts of the frames that were drawn, and why there are no more."""

    frames: int = 0
    """Number of frames that were drawn."""
    written: int = 0
    """Number of frames in the output: fewer than `frames` if untypical frames were dropped."""
    finished: int = 0
    """Number of frames in the finished segments: a resumed job continues after them."""
    rejected: int = 0
    """Number of frames without a finite sample, which are the enlarged input."""
    untypical: int = 0
    """Number of frames whose typicality is below `min_typicality`."""
    dropped: int = 0
    """Number of frames of a live source that arrived too fast."""
    ended_early: str | None = None
    """Why frames of the source are missing or damaged; None if they are not."""
    stopped: KeyboardInterrupt | None = None
    """Interrupt that ended the drawing before the end of the source, such as Ctrl-C."""
    lost: list[str] = field(default_factory=list)
    """Properties of the source that could not be kept, one line each."""


@dataclass
class VideoDrawing:
    """Draws the frames of a source in order. A separate thread reads the source ahead."""

    pipe: Pipeline
    source: Source
    stream: Stream
    show: TakeFrame | None = None
    show_dropped: ShowDropped | None = None
    dropped: int = 0
    """Number of frames of a live source that arrived too fast."""
    ended_early: str | None = None
    _lane: BoundedQueue[TimedFrame] = field(default_factory=lambda: BoundedQueue(1))
    _timed: Iterator[TimedFrame] = field(default_factory=lambda: iter(()))
    _shape: tuple[int, ...] = ()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read the source until the block ends."""
        try:
            with read_ahead(self.source.frames, self.source.drops, self.source.close) as self._lane:
                self._timed = iter(self._lane)
                yield
        finally:
            self._count_dropped()
            self.ended_early = self.ended_early or self.source.ended_early

    def draw(self, count: int | None = None) -> Iterator[tuple[Frame, TimedFrame]]:
        """Draw the next frames, up to `count`, and yield each with the frame of the source that it was made from.

        There are no more frames after one of another size.
        """
        waiting: deque[TimedFrame] = deque()

        def images() -> Iterator[Image]:
            for timed in islice(self._timed, count):
                self._shape = self._shape or timed.image.shape
                if timed.image.shape != self._shape:
                    self.ended_early = resized(self.source.name, self._shape, timed.image.shape)
                    return
                waiting.append(timed)
                yield timed.image

        for frame in draw_frames(self.pipe, self.stream, images()):
            self._count_dropped()
            timed = waiting.popleft()
            yield frame, timed
            if self.show:
                self.show(frame, timed)

    def skip(self, segment: SegmentRecord) -> None:
        """Skip the frames of a finished segment.

        Raises:
            TooFewFrames: if the source ends before.
        """
        skipped = 0
        for timed in islice(self._timed, segment.frames):
            self.stream.skip(without_alpha(timed.image), segment.sample)
            skipped += 1
        if skipped < segment.frames:
            raise TooFewFrames(
                f"{self.source.name} has only {segment.first + skipped} frames, fewer than the finished segments: "
                "start again with `force`"
            )

    def _count_dropped(self) -> None:
        new, self.dropped = self._lane.dropped - self.dropped, self._lane.dropped
        if new and self.show_dropped:
            self.show_dropped(new)


@dataclass
class VideoJob:
    """Job that draws a source and writes the result to a file."""

    pipe: Pipeline
    source: Source
    output: Path
    settings: VideoSettings
    show: TakeFrame | None = None
    show_dropped: ShowDropped | None = None
    state: VideoState = field(init=False)
    """Contents of `job.json`, which `open` reads or writes."""

    @property
    def folder(self) -> Path:
        """Folder of the segments until they are joined. Each segment can be played separately."""
        return folder_of(self.output)

    def earlier(self, force: bool) -> dict[int, SegmentRecord]:
        """Return the segments that need not be drawn again, by their numbers. Nothing is changed.

        Raises:
            InputError: if there is a job that cannot be resumed, or not with these settings.
            OSError: if a file cannot be read.
        """
        self._check_stopped()
        if force or find_video_job(self.folder, self.settings) is None:
            return {}
        return read_segments(self.folder, self.settings)

    def open(self, force: bool) -> dict[int, SegmentRecord]:
        """Begin or resume the job in its folder, which the caller has locked. Return what `earlier` returns.

        Arguments:
            force: discard a job that is there, and start again. Jobs of live sources and pipes are never discarded.

        Raises:
            InputError, OSError: as `earlier`.
        """
        self._check_stopped()
        self.state = open_folder(self.folder, self.settings, force)
        return resume_segments(self.folder, self.settings)

    def _check_stopped(self) -> None:
        """Refuse to discard the job of a live source or a pipe."""
        if self.source.path is None and (self.folder / JOB_FILE).is_file():
            raise InputError(
                f"{self.folder} contains a stopped job that cannot be resumed, but its files can be played: move or "
                "remove the folder"
            )

    def run(self, force: bool = False) -> VideoOutcome:
        """Run or resume the job in this process. If it ends early, the output contains all frames drawn until then.

        Segments that an earlier run has finished are drawn again if their files have changed.

        Arguments:
            force: as in `open`.

        Raises:
            InputError: if a setting is wrong, if the folder contains another job, or if another process works on the
                job.
            UnwritableVideo: if writing fails, for example on a full disk. Finished segments are kept.
        """
        stream = Stream(self.pipe, self.settings.streaming)
        drawing = VideoDrawing(self.pipe, self.source, stream, self.show, self.show_dropped)
        with exclusive_lock(self.folder):
            records = self.open(force)
            with drawing.reading():
                last, ended_by = self._draw(drawing, records)
            outcome = self._finish(records, self._unfinished(last, records), ended_by)
        outcome.dropped = drawing.dropped
        outcome.ended_early = outcome.ended_early or drawing.ended_early
        return outcome

    def take(self, drawn: Iterable[SegmentRecord], records: dict[int, SegmentRecord]) -> VideoOutcome:
        """Write the lines of segments that workers draw, and the output. The folder is open and locked.

        Arguments:
            drawn: segments as they are finished. An exception ends the job early.
            records: what `open` has returned.

        Raises:
            UnwritableVideo: if the output cannot be written.
        """
        journal, ended_by = open_journal(self.folder), None
        try:
            for record in drawn:
                records[record.number] = journal.append(record)[0]
        except (KeyboardInterrupt, Exception) as error:
            ended_by = error
        return self._finish(records, [], ended_by)

    def _draw(
        self, drawing: VideoDrawing, records: dict[int, SegmentRecord]
    ) -> tuple[SegmentFile | None, BaseException | None]:
        """Draw the segments that have no record, in order, and add their records.

        Returns:
            The last segment, which is unfinished, and what ended the drawing, if it was not the end of the source.

        Raises:
            TooFewFrames: if the source ends before a finished segment.
        """
        journal, file = open_journal(self.folder), None
        encoding, drops = self.settings.encoding, self.settings.streaming.draw.otherwise == "drop"
        try:
            for number in count():
                if number in records:
                    drawing.skip(records[number])
                    continue
                file = SegmentFile(self._path(number), self.source.info, encoding, drops)
                length = frames_of_segment(number, self.settings.segment_frames)
                for frame, timed in drawing.draw(length):
                    file.add(frame, timed.ticks)
                if file.frames < length:
                    break
                file.close()
                records[number] = journal.append(self._record(file, number, drawing.stream.sample))[0]
        except TooFewFrames:
            raise
        except (KeyboardInterrupt, Exception) as error:
            return file, error
        return file, None

    def _unfinished(self, file: SegmentFile | None, records: dict[int, SegmentRecord]) -> list[SegmentRecord]:
        """Return the record of the unfinished segment, if it has frames. Its file can be joined as well.

        Raises:
            InputError, UnwritableVideo: if a frame could not be written.
        """
        number = first_missing(records)
        if file is None or file.path != self._path(number):
            return []
        with suppress(Exception):
            file.close()
        if not records and not file.written and not self._has_longer_output(0):
            remove_segments(self.folder)
        if file.failure is not None:
            raise self._explained(file.failure)
        return [self._record(file, number, None)] if file.frames else []

    def _record(self, file: SegmentFile, number: int, sample: int | None) -> SegmentRecord:
        """Return the record of a segment whose file is closed, and flush the file to disk."""
        described = None
        if file.written:
            to_disk(file.path)
            described = describe_file(self.folder, file.path.name)
        return file.record(number, first_frame(number, self.settings.segment_frames), sample, described)

    def _finish(
        self, records: dict[int, SegmentRecord], unfinished: list[SegmentRecord], ended_by: BaseException | None
    ) -> VideoOutcome:
        """Join the first segments, and remove the folder unless the same command can resume the job.

        The output of an earlier stop is kept if it is longer, because that stop also wrote an unfinished segment.
        """
        finished = first_segments(records)
        segments = [*finished, *unfinished]
        outcome = VideoOutcome(
            frames=sum(one.frames for one in segments),
            written=sum(one.written for one in segments),
            finished=sum(one.frames for one in finished),
            rejected=sum(one.rejected for one in segments),
            untypical=sum(one.untypical for one in segments),
        )
        if ended_by is not None and self._has_longer_output(outcome.frames):
            for name in COUNTS:
                setattr(outcome, name, getattr(self.state, name))
        elif outcome.written:
            try:
                outcome.lost = join_segments(segments, self.folder, self.source, self.output, ended_by is None)
            except UnwritableVideo as error:
                raise self._explained(error) from None
        if ended_by is not None and segments:
            for name in COUNTS:
                setattr(self.state, name, getattr(outcome, name))
            self.state.write(self.folder)
        if isinstance(ended_by, KeyboardInterrupt):
            outcome.stopped = ended_by
        elif ended_by is not None:
            if not outcome.frames or not isinstance(ended_by, CaflowError | OSError | MemoryError):
                raise ended_by
            # Most errors about memory have no message.
            outcome.ended_early = str(ended_by) or f"drawing failed: {type(ended_by).__name__}"
        if ended_by is None or self.source.path is None:
            remove_segments(self.folder)
        return outcome

    def _has_longer_output(self, frames: int) -> bool:
        """Return whether an earlier stop has written an output of more frames, which still exists."""
        return self.state.frames > frames and (self.output.exists() or bool(numbers_of(self.output)))

    def _path(self, number: int) -> Path:
        return self.folder / segment_name(number, self.settings.encoding.segment_suffix)

    def _explained(self, error: Exception) -> Exception:
        """Return an error that says why writing failed, where the segments are, and where the job is resumed."""
        if not isinstance(error, import_av().FFmpegError | OSError):
            return error
        why = str(error) if isinstance(error, UnwritableVideo) else f"{self.output} cannot be written: {error}"
        if not (self.folder / JOB_FILE).is_file():
            return UnwritableVideo(why)
        finished = sum(one.frames for one in first_segments(read_segments(self.folder, self.settings)))
        way = f"; the same command {where_resumed(finished)}" if self.source.path else ""
        return UnwritableVideo(f"{why}; the finished part is in {self.folder}, and can be played{way}")
