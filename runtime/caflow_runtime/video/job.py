"""A video to another: read, draw and write at once, segment by segment, so that nothing that is done is lost."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any

from caflow_runtime.errors import CaflowError, InputError
from caflow_runtime.image import Image
from caflow_runtime.jobs.folder import alone
from caflow_runtime.pipeline.stream import Frame, Stream
from caflow_runtime.video.join import Part, join_what_fits
from caflow_runtime.video.journal import NAME as JOURNAL
from caflow_runtime.video.journal import OWN, check_resumable, open_journal
from caflow_runtime.video.lane import Lane, ReaderGone
from caflow_runtime.video.recorder import Recorder
from caflow_runtime.video.sink import Encoding, to_disk
from caflow_runtime.video.source import Source, TimedFrame, UnwritableVideo, import_av, resized

WAITING_FRAMES = 8
SEGMENT_FRAMES = 240
READER_ENDS_S = 20.0
"""Longer than opening, or reading, takes a source that is lost."""

Show = Callable[[Frame, TimedFrame], None]
"""Is given each frame that is done, and what it was made of."""


@dataclass(frozen=True)
class Stretch:
    """Frames that an earlier run has drawn."""

    frames: int
    sample: int
    """That the scene of the last of them keeps."""
    is_lost: bool
    """They are drawn again."""


@dataclass
class Drawing:
    """Draws a source's frames, whose reading runs ahead, and counts them."""

    source: Source
    stream: Stream
    show: Show | None = None
    frames: int = 0
    written: int = 0
    """Frames in the output, if there is one: fewer than were drawn where untypical ones were dropped."""
    rejected: int = 0
    untypical: int = 0
    dropped: int = 0
    ended_early: str | None = None
    stopped: bool = False
    """By Ctrl-C."""
    _shape: tuple[int, ...] = ()

    def run(self, take: Show | None = None, earlier: Sequence[Stretch] = ()) -> None:
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
        except KeyboardInterrupt:
            self.stopped = True
        finally:
            self.source.close()
            lane.leave()
            reader.join(READER_ENDS_S)  # a thread that is in OpenCV at exit takes the process down
            self.dropped = lane.dropped
            self.ended_early = self.ended_early or self.source.ended_early

    def _drawn(self, timed: Iterator[TimedFrame], earlier: Sequence[Stretch]) -> Iterator[tuple[Frame, TimedFrame]]:
        """Frames that are not done yet, or lost."""
        for stretch in earlier:
            if stretch.is_lost:
                yield from self._together(islice(timed, stretch.frames))
            else:
                for frame in islice(timed, stretch.frames):
                    self.stream.skip(frame.image, stretch.sample)
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

        for frame in self.stream(images()):
            yield frame, waiting.popleft()


def parts_of(output: Path) -> Path:
    """The folder of a job that writes to a file."""
    return output.with_name(f"{output.name}.parts")


@dataclass
class Job:
    """A drawing that is written to a file."""

    source: Source
    output: Path
    stream: Stream
    encoding: Encoding
    settings: dict[str, Any]
    """All that the result depends on: a job goes on only with the same."""
    segment_frames: int = SEGMENT_FRAMES
    show: Show | None = None
    drops_untypical: bool = False
    """Untypical frames are not written; the last one before stays on the screen."""
    lost: list[str] = field(default_factory=list)
    """What of the source could not be kept as it was, a line each."""

    @property
    def parts(self) -> Path:
        """Where segments are until they are joined; each plays by itself."""
        return parts_of(self.output)

    def run(self, resume: bool) -> Drawing:
        """Do it, or what is left of it. Whatever ends the drawing, all that was drawn is in the output.

        Segments that an earlier run has finished are drawn again where their files are not what they were.

        Returns:
            What was drawn.

        Raises:
            InputError: if there is no such job to resume, if there is a job that was not asked for, or if another
                process works on it.
            UnwritableVideo: if the disk is full, say; the segments that are finished stay.
        """
        if resume:
            check_resumable(self.parts, self.source.path, self.source.name)
        with alone(self.parts):
            settings = self.settings | {"segment_frames": self.segment_frames}
            journal = open_journal(self.parts, self.source.path, self.source.name, settings, resume)
            damaged = deque(journal.damaged(self.parts))
            info = self.source.info
            return self._run(Recorder(self.parts, journal, info, self.encoding, self.segment_frames, damaged))

    def _run(self, recorder: Recorder) -> Drawing:
        drawing = Drawing(self.source, self.stream, self.show)
        drawn: Lane[tuple[Frame, int]] = Lane(WAITING_FRAMES)
        failed: list[BaseException] = []
        earlier = [
            Stretch(self.segment_frames, segment.sample, number in recorder.damaged)
            for number, segment in enumerate(recorder.journal.segments)
        ]
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
                f"{self.parts / JOURNAL} says that {recorder.frames} frames are done, but {self.source.name} has only "
                f"{drawing.frames}: remove {self.parts} and give --force"
            )
        drawing.frames = recorder.frames  # those that were skipped count even if it was stopped while skipping
        if recorder.is_empty:
            self._remove_parts()
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
            self._remove_parts()
        return drawing

    def _writing(self, drawn: Lane[tuple[Frame, int]], recorder: Recorder, failed: list[BaseException]) -> None:
        """The writer's thread."""
        try:
            for frame, ticks in drawn:
                is_dropped = frame.untypical and self.drops_untypical
                recorder.write(None if is_dropped else frame.pixels, ticks, frame.sample)
            recorder.close()
        except BaseException as error:
            failed.append(error)
            drawn.leave()

    def _join(self, parts: Sequence[Part], recorder: Recorder) -> None:
        self._check_whole(recorder)
        whole = self.parts / f"joined{self.output.suffix}"
        try:
            self.lost = join_what_fits(parts, whole, self.source.along, self.source.info)
            to_disk(whole)
            whole.replace(self.output)
        except (OSError, import_av().FFmpegError) as error:
            whole.unlink(missing_ok=True)
            raise self._explained(error) from None

    def _check_whole(self, recorder: Recorder) -> None:
        """Whether finished segments are what they were, but for those that still have to be written again."""
        damaged = [number for number in recorder.journal.damaged(self.parts) if number not in recorder.damaged]
        if damaged:
            way = "give --resume to draw it again" if self.source.path else f"the others are in {self.parts} and play"
            raise UnwritableVideo(
                f"{self.output} cannot be written: segment {damaged[0]} in {self.parts} has changed since it was "
                f"finished: {way}"
            )

    def _explained(self, error: BaseException) -> BaseException:
        """What went wrong in writing, and where what is done is."""
        if not isinstance(error, import_av().FFmpegError | OSError):
            return error
        done = f"; what is done is in {self.parts}: its files play" if (self.parts / JOURNAL).is_file() else ""
        way = ", and --resume continues from them" if done and self.source.path else ""
        return UnwritableVideo(f"{self.output} cannot be written: {error}{done}{way}")

    def _remove_parts(self) -> None:
        """What is the job's own; the folder goes with the lock, unless something else is in it."""
        for path in self.parts.iterdir():
            if OWN.fullmatch(path.name) and not path.is_dir():
                path.unlink()
