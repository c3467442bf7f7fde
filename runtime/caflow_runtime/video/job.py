"""A video to another: read, draw and write at once, segment by segment, so that nothing that is done is lost."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Thread

from caflow_runtime.errors import CaflowError, InputError
from caflow_runtime.image import Image
from caflow_runtime.jobs.folder import NAME, alone, is_intact
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.pipeline.stream import Frame, Stream
from caflow_runtime.video.join import VideoPart
from caflow_runtime.video.lane import Lane, ReaderGone
from caflow_runtime.video.parts import (
    Record,
    Report,
    VideoSettings,
    open_parts,
    parts_of,
    read_records,
    remove_parts,
)
from caflow_runtime.video.recorder import Recorder
from caflow_runtime.video.results import write_result
from caflow_runtime.video.source import Source, TimedFrame, UnwritableVideo, import_av, resized
from caflow_runtime.video.transparency import colours_of, draw_frames

WAITING_FRAMES = 8
SEGMENT_FRAMES = 240
READER_ENDS_S = 20.0
"""Longer than opening, or reading, takes a source that is lost."""

TakeFrame = Callable[[Frame, TimedFrame], None]
"""Is given each frame that is done, and what it was made of."""


@dataclass(frozen=True)
class Stretch:
    """Frames of a segment that an earlier run has drawn."""

    frames: int
    report: Report | None
    """None if they are lost, and drawn again."""


@dataclass
class Drawing:
    """Draws a source's frames, whose reading runs ahead, and counts them."""

    pipe: Pipeline
    source: Source
    stream: Stream
    show: TakeFrame | None = None
    frames: int = 0
    written: int = 0
    """Frames in the output, if there is one: fewer than were drawn where untypical ones were dropped."""
    rejected: int = 0
    untypical: int = 0
    dropped: int = 0
    ended_early: str | None = None
    stopped: KeyboardInterrupt | None = None
    """What ended it before the end of the source, such as Ctrl-C."""
    _shape: tuple[int, ...] = ()

    def run(self, take: TakeFrame | None = None, earlier: Sequence[Stretch] = ()) -> None:
        """Draw all frames. Ctrl-C ends it as the end of the source would.

        Arguments:
            take: is given each frame before it is counted and shown.
            earlier: what was drawn before, from the source's first frame on.
        """
        lane: Lane[TimedFrame] = Lane(1, drops=True) if self.source.drops else Lane(WAITING_FRAMES)
        reader = lane.fill(self.source.frames)
        try:
            for frame, timed in self._drawn(iter(lane), earlier):
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
            reader.join(READER_ENDS_S)  # a thread that is in OpenCV at exit takes the process down
            self.dropped = lane.dropped
            self.ended_early = self.ended_early or self.source.ended_early

    def _drawn(self, timed: Iterator[TimedFrame], earlier: Sequence[Stretch]) -> Iterator[tuple[Frame, TimedFrame]]:
        """Frames that are not done yet, or lost."""
        for stretch in earlier:
            if stretch.report is None:
                yield from self._together(islice(timed, stretch.frames))
                continue
            self.rejected += stretch.report.rejected
            self.untypical += stretch.report.untypical
            for frame in islice(timed, stretch.frames):
                self.stream.skip(colours_of(frame.image), stretch.report.sample)
                self.frames += 1
        yield from self._together(timed)

    def _together(self, timed: Iterator[TimedFrame]) -> Iterator[tuple[Frame, TimedFrame]]:
        """Each frame with what it was made of. They end where their size changes."""
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
    """A drawing that is written to a file."""

    pipe: Pipeline
    source: Source
    output: Path
    settings: VideoSettings
    show: TakeFrame | None = None
    lost: list[str] = field(default_factory=list)
    """What of the source could not be kept as it was, a line each."""

    @property
    def parts(self) -> Path:
        """Where segments are until they are joined; each plays by itself."""
        return parts_of(self.output)

    def run(self, force: bool = False) -> Drawing:
        """Do it, or what is left of it. Whatever ends the drawing, all that was drawn is in the output.

        Segments that an earlier run has finished are drawn again where their files are not what they were.

        Arguments:
            force: begin anew, whatever job is there. The files of a live source that was stopped stay all the same.

        Returns:
            What was drawn, those segments that were there included.

        Raises:
            InputError: if a setting is not what it should be, if there is another job, or if another process works on
                it.
            UnwritableVideo: if the disk is full, say; the segments that are finished stay.
        """
        drawing = Drawing(self.pipe, self.source, self.pipe.open_stream(self.settings.streaming), self.show)
        with alone(self.parts):
            if self.source.path is None and (self.parts / NAME).is_file():
                raise InputError(
                    f"{self.parts} holds a job that was stopped; its files play: move or remove that folder"
                )
            open_parts(self.parts, self.settings, force)
            records = read_records(self.parts, self.settings, "one process")
            return self._run(drawing, Recorder(self.parts, self.settings, self.source.info, records))

    def _run(self, drawing: Drawing, recorder: Recorder) -> Drawing:
        drawn: Lane[tuple[Frame, int]] = Lane(WAITING_FRAMES)
        failed: list[BaseException] = []
        earlier = self._earlier(recorder.records)
        writer = Thread(target=self._writing, args=(drawn, recorder, failed), daemon=True)
        writer.start()
        gone_wrong: Exception | None = None
        try:
            drawing.run(lambda frame, timed: drawn.put((frame, timed.ticks)), earlier)
        except ReaderGone:
            pass  # the writer failed: its error says more
        except Exception as error:
            gone_wrong = error
        drawn.end()
        writer.join()
        if drawing.frames < recorder.frames and not (drawing.stopped or failed or gone_wrong):
            raise InputError(
                f"{self.parts} says that {recorder.frames} frames are done, but {self.source.name} has only "
                f"{drawing.frames}: give --force to begin anew"
            )
        drawing.frames = recorder.frames  # those that were skipped count even if it was stopped while skipping
        if recorder.is_empty:
            remove_parts(self.parts)
        if failed:
            raise self._explained(failed[0])
        parts = recorder.parts
        if parts:
            self._join(parts, recorder)
        drawing.written = sum(part.frames for part in parts)
        if gone_wrong:
            if not drawing.frames or not isinstance(gone_wrong, CaflowError | OSError | MemoryError):
                raise gone_wrong
            drawing.ended_early = str(gone_wrong)
        may_go_on = self.source.path is not None and (drawing.stopped or gone_wrong is not None)
        if not may_go_on:
            remove_parts(self.parts)
        return drawing

    def _earlier(self, records: Mapping[int, Record]) -> list[Stretch]:
        """All segments up to the last one with a record."""
        reports = {number: record.report for number, record in records.items()}
        return [
            Stretch(reports[number].frames if number in reports else self.settings.segment_frames, reports.get(number))
            for number in range(max(reports, default=-1) + 1)
        ]

    def _writing(self, drawn: Lane[tuple[Frame, int]], recorder: Recorder, failed: list[BaseException]) -> None:
        """The writer's thread."""
        try:
            for frame, ticks in drawn:
                recorder.write(frame, ticks)
            recorder.close()
        except BaseException as error:
            failed.append(error)
            drawn.leave()

    def _join(self, parts: Sequence[VideoPart], recorder: Recorder) -> None:
        self._check_whole(recorder.records)
        try:
            self.lost = write_result(parts, self.output, self.source.along, self.source.info)
        except (OSError, import_av().FFmpegError) as error:
            raise self._explained(error) from None

    def _check_whole(self, records: Mapping[int, Record]) -> None:
        """Whether finished segments are what they were."""
        for number, record in records.items():
            if record.file is not None and not is_intact(self.parts, record.file):
                again = "run the same command again to resume"
                way = again if self.source.path else f"the others are in {self.parts} and play"
                raise UnwritableVideo(
                    f"{self.output} cannot be written: segment {number} in {self.parts} has changed since it was "
                    f"finished: {way}"
                )

    def _explained(self, error: BaseException) -> BaseException:
        """What went wrong in writing, and where what is done is."""
        if not isinstance(error, import_av().FFmpegError | OSError):
            return error
        done = f"; what is done is in {self.parts}: its files play" if (self.parts / NAME).is_file() else ""
        way = "; run the same command again to resume" if done and self.source.path else ""
        return UnwritableVideo(f"{self.output} cannot be written: {error}{done}{way}")
