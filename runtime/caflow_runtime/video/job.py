"""Job that makes a video from another video, in one process.

Reading, drawing and writing run at the same time. The result is written in segments, so that a stop loses at most the
last one.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Thread

from caflow_runtime.errors import CaflowError, InputError
from caflow_runtime.image import Image
from caflow_runtime.job_file import JOB_FILE
from caflow_runtime.jobs.folder import alone, is_intact
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import Frame, Stream
from caflow_runtime.video.join import VideoPart
from caflow_runtime.video.lane import Lane, ReaderGone
from caflow_runtime.video.opening import import_av
from caflow_runtime.video.parts import (
    DrawnBy,
    Record,
    Report,
    VideoSettings,
    holds_same_job,
    open_parts,
    parts_of,
    read_records,
    remove_parts,
)
from caflow_runtime.video.recorder import Recorder
from caflow_runtime.video.results import cut_to, write_result
from caflow_runtime.video.segment_lengths import frames_of_segment
from caflow_runtime.video.source import Source, TimedFrame, UnwritableVideo, resized
from caflow_runtime.video.transparency import draw_frames, without_alpha

WAITING_FRAMES = 8
READER_ENDS_S = 20.0
"""Seconds to wait for the end of the reading thread; opening or reading a lost source takes less."""

TakeFrame = Callable[[Frame, TimedFrame], None]
"""Callback that receives each finished frame, and the frame of the source that it was made from."""
ShowDropped = Callable[[int], None]
"""Callback that receives the number of frames that a live source has dropped since the last call."""


def where_resumed(finished: int) -> str:
    """Return where the same command continues a stopped job, of which `finished` frames are in finished segments."""
    if not finished:
        return "starts at the beginning, because no segment is finished"
    return f"resumes after frame {finished}, the end of the last finished segment"


@dataclass(frozen=True)
class EarlierSegment:
    """Frames of one segment that an earlier run has drawn."""

    frames: int
    report: Report | None
    """None if the frames are lost, and must be drawn again."""


@dataclass
class VideoDrawing:
    """Draws the frames of a source, and counts them. A separate thread reads the source ahead."""

    pipe: Pipeline
    source: Source
    stream: Stream
    show: TakeFrame | None = None
    show_dropped: ShowDropped | None = None
    frames: int = 0
    written: int = 0
    """Number of frames in the output, if there is one: fewer than `frames` if untypical frames were dropped."""
    finished: int = 0
    """Number of frames in the finished segments: a resumed job continues after them."""
    rejected: int = 0
    untypical: int = 0
    dropped: int = 0
    ended_early: str | None = None
    stopped: KeyboardInterrupt | None = None
    """Interrupt that ended the drawing before the end of the source, such as Ctrl-C."""
    _shape: tuple[int, ...] = ()

    def run(self, take: TakeFrame | None = None, earlier: Sequence[EarlierSegment] = ()) -> None:
        """Draw all frames. Ctrl-C ends the drawing like the end of the source.

        Arguments:
            take: receives each frame before it is counted and shown.
            earlier: frames that were drawn by earlier runs, from the source's first frame on.
        """
        lane: Lane[TimedFrame] = Lane(1, drops=True) if self.source.drops else Lane(WAITING_FRAMES)
        reader = lane.fill(self.source.frames)
        try:
            for frame, timed in self._drawn(iter(lane), earlier):
                self._count_dropped(lane.dropped)
                if take:
                    take(frame, timed)
                self.frames += 1
                self.rejected += frame.rejected
                self.untypical += frame.untypical
                if self.show:
                    self.show(frame, timed)
        except KeyboardInterrupt as stop:
            self.stopped = stop
        finally:
            self.source.close()
            lane.leave()
            reader.join(READER_ENDS_S)  # a thread that is inside OpenCV at exit crashes the process
            self._count_dropped(lane.dropped)
            self.ended_early = self.ended_early or self.source.ended_early

    def _count_dropped(self, dropped: int) -> None:
        new, self.dropped = dropped - self.dropped, dropped
        if new and self.show_dropped:
            self.show_dropped(new)

    def _drawn(
        self, timed: Iterator[TimedFrame], earlier: Sequence[EarlierSegment]
    ) -> Iterator[tuple[Frame, TimedFrame]]:
        """Draw the frames that are not done yet or were lost, and skip all others."""
        for segment in earlier:
            if segment.report is None:
                yield from self._together(islice(timed, segment.frames))
                continue
            for frame in islice(timed, segment.frames):
                self.stream.skip(without_alpha(frame.image), segment.report.sample)
                self.frames += 1
        yield from self._together(timed)

    def _together(self, timed: Iterator[TimedFrame]) -> Iterator[tuple[Frame, TimedFrame]]:
        """Draw frames, each with the frame of the source that it was made from. Stop if the size of frames changes."""
        waiting: deque[TimedFrame] = deque()

        def images() -> Iterator[Image]:
            for frame in timed:
                self._shape = self._shape or frame.image.shape
                if frame.image.shape != self._shape:
                    self.ended_early = resized(self.source.name, self._shape, frame.image.shape)
                    return
                waiting.append(frame)
                yield frame.image

        for frame in draw_frames(self.pipe, self.stream, images()):
            yield frame, waiting.popleft()


@dataclass
class VideoJob:
    """Job that draws a source and writes the result to a file."""

    pipe: Pipeline
    source: Source
    output: Path
    settings: VideoSettings
    show: TakeFrame | None = None
    show_dropped: ShowDropped | None = None
    lost: list[str] = field(default_factory=list, init=False)
    """Properties of the source that could not be kept, one line each."""

    @property
    def parts(self) -> Path:
        """Folder of the segments until they are joined. Each segment can be played separately."""
        return parts_of(self.output)

    def earlier(self, force: bool, drawn_by: DrawnBy = "one process") -> dict[int, Record]:
        """Return the records of the segments that need not be drawn again, by segment number. Nothing is changed.

        Raises:
            InputError: if there is a job that cannot be resumed this way or with these settings.
            OSError: if a file cannot be read.
        """
        if self.source.path is None and (self.parts / JOB_FILE).is_file():
            raise InputError(
                f"{self.parts} contains a stopped job that cannot be resumed, but its files can be played: move or "
                "remove the folder"
            )
        if force or not holds_same_job(self.parts, self.settings):
            return {}
        return read_records(self.parts, self.settings, drawn_by)

    def run(self, force: bool = False) -> VideoDrawing:
        """Run or resume the job. If the drawing ends early, the output contains all frames that were drawn until then.

        Segments that an earlier run has finished are drawn again if their files have changed.

        Arguments:
            force: discard a job that is there, and start again. Jobs of live sources and pipes are never discarded.

        Returns:
            Counts of the frames, including those of earlier runs.

        Raises:
            InputError: if a setting is wrong, if the folder contains another job, or if another process works on the
                job.
            UnwritableVideo: if writing fails, for example on a full disk. Finished segments are kept.
        """
        stream = Stream(self.pipe, self.settings.streaming)
        drawing = VideoDrawing(self.pipe, self.source, stream, self.show, self.show_dropped)
        with alone(self.parts):
            records = self.earlier(force)
            open_parts(self.parts, self.settings, force)
            return self._run(drawing, Recorder(self.parts, self.settings, self.source.info, records))

    def _run(self, drawing: VideoDrawing, recorder: Recorder) -> VideoDrawing:
        drawn: Lane[tuple[Frame, int]] = Lane(WAITING_FRAMES)
        failed: list[BaseException] = []
        earlier = self._earlier(recorder.records)
        writer = Thread(target=self._writing, args=(drawn, recorder, failed), daemon=True)
        writer.start()
        gone_wrong: Exception | None = None
        try:
            drawing.run(lambda frame, timed: drawn.put((frame, timed.ticks)), earlier)
        except ReaderGone:
            pass  # the writer failed; its own error says more, and is raised below
        except Exception as error:
            gone_wrong = error
        drawn.end()
        writer.join()
        if drawing.frames < recorder.frames and not (drawing.stopped or failed or gone_wrong):
            raise InputError(
                f"{self.parts} contains {recorder.frames} finished frames, but {self.source.name} has only "
                f"{drawing.frames}: start again with --force"
            )
        # Frames of earlier runs count, even if this run was stopped while it skipped them.
        drawing.frames, drawing.rejected, drawing.untypical = recorder.frames, recorder.rejected, recorder.untypical
        drawing.finished = recorder.finished
        if recorder.is_empty:
            remove_parts(self.parts)
        if failed:
            raise self._explained(failed[0], recorder)
        parts = recorder.parts
        is_whole = drawing.stopped is None and gone_wrong is None
        if parts:
            self._join(parts, recorder, is_whole)
        drawing.written = sum(part.frames for part in parts)
        if gone_wrong:
            if not drawing.frames or not isinstance(gone_wrong, CaflowError | OSError | MemoryError):
                raise gone_wrong
            # Most errors about memory have no message.
            drawing.ended_early = str(gone_wrong) or f"drawing failed: {type(gone_wrong).__name__}"
        if is_whole or self.source.path is None:
            remove_parts(self.parts)
        return drawing

    def _earlier(self, records: Mapping[int, Record]) -> list[EarlierSegment]:
        """Return all segments up to the last one with a record."""
        reports = {number: record.report for number, record in records.items()}
        found = [reports.get(number) for number in range(max(reports, default=-1) + 1)]
        usual = self.settings.segment_frames
        return [
            EarlierSegment(frames_of_segment(number, usual) if report is None else report.frames, report)
            for number, report in enumerate(found)
        ]

    def _writing(self, drawn: Lane[tuple[Frame, int]], recorder: Recorder, failed: list[BaseException]) -> None:
        """Write the frames that were drawn; runs in the writer's thread."""
        try:
            for frame, ticks in drawn:
                recorder.write(frame, ticks)
            recorder.close()
        except BaseException as error:
            failed.append(error)
            drawn.leave()

    def _join(self, parts: Sequence[VideoPart], recorder: Recorder, is_whole: bool) -> None:
        self._check_whole(recorder.records)
        try:
            info = self.source.info if is_whole else cut_to(parts, self.source.info)
            self.lost = write_result(parts, self.output, self.source.along, info)
        except (OSError, import_av().FFmpegError) as error:
            raise self._explained(error, recorder) from None

    def _check_whole(self, records: Mapping[int, Record]) -> None:
        """Check that the files of finished segments have not changed.

        Raises:
            UnwritableVideo: if one has.
        """
        for number, record in records.items():
            if record.file is not None and not is_intact(self.parts, record.file):
                again = "run the same command again to draw it again"
                way = again if self.source.path else f"the other segments are in {self.parts}, and can be played"
                raise UnwritableVideo(
                    f"{self.output} cannot be written: segment {number} in {self.parts} has changed since it was "
                    f"finished: {way}"
                )

    def _explained(self, error: BaseException, recorder: Recorder) -> BaseException:
        """Return an error that says why writing failed, where the segments are, and where the job is resumed."""
        if not isinstance(error, import_av().FFmpegError | OSError):
            return error
        done = f"; the finished part is in {self.parts}, and can be played" if (self.parts / JOB_FILE).is_file() else ""
        way = f"; the same command {where_resumed(recorder.finished)}" if done and self.source.path else ""
        return UnwritableVideo(f"{self.output} cannot be written: {error}{done}{way}")
