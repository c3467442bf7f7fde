"""A video to another: read, draw and write at once, segment by segment, so that nothing that is done is lost."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

from caflow_runtime.errors import CaflowError
from caflow_runtime.inputs import Image
from caflow_runtime.results import REJECTED
from caflow_runtime.stream import Frame, Stream
from caflow_runtime.video.join import join_what_fits
from caflow_runtime.video.journal import NAME as JOURNAL
from caflow_runtime.video.journal import Journal, Segment, open_journal
from caflow_runtime.video.lane import Lane, ReaderGone
from caflow_runtime.video.sink import Encoding, SegmentWriter, to_disk
from caflow_runtime.video.source import Source, TimedFrame, UnwritableVideo, import_av, resized

WAITING_FRAMES = 8
SEGMENT_FRAMES = 240
READER_ENDS_S = 20.0
"""Longer than opening, or reading, takes a source that is lost."""

Show = Callable[[Frame, TimedFrame], None]
"""Is given each frame that is done, and what it was made of."""


@dataclass
class Drawing:
    """Draws a source's frames, whose reading runs ahead, and counts them."""

    source: Source
    stream: Stream
    show: Show | None = None
    frames: int = 0
    rejected: int = 0
    untypical: int = 0
    dropped: int = 0
    ended_early: str | None = None
    stopped: bool = False
    """By Ctrl-C."""

    def run(self, take: Show | None = None, skip: int = 0, sample: int = REJECTED) -> None:
        """Draw all frames. Ctrl-C ends it as the end of the source would.

        Arguments:
            take: is given each frame before it is counted and shown.
            skip: so many frames were done before.
            sample: that the scene of the last of them keeps.
        """
        lane: Lane[TimedFrame] = Lane(1, drops=True) if self.source.drops else Lane(WAITING_FRAMES)
        reader = lane.fill(self.source.frames)
        self.frames = skip
        try:
            for frame, timed in self._drawn(iter(lane), skip, sample):
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

    def _drawn(self, timed: Iterator[TimedFrame], skip: int, sample: int) -> Iterator[tuple[Frame, TimedFrame]]:
        """Frames that are not done yet."""
        for _ in range(skip):
            self.stream.skip(next(timed).image, sample)
        waiting: deque[TimedFrame] = deque()

        def images() -> Iterator[Image]:
            shape: tuple[int, ...] | None = None
            for frame in timed:
                shape = shape or frame.image.shape
                if frame.image.shape != shape:
                    self.ended_early = resized(self.source.name, shape, frame.image.shape)
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
    _unfinished: list[tuple[Path, int]] = field(default_factory=list)

    @property
    def parts(self) -> Path:
        """Where segments are until they are joined; each plays by itself."""
        return parts_of(self.output)

    def run(self, resume: bool) -> Drawing:
        """Do it, or what is left of it. Whatever ends the drawing, all that was drawn is in the output.

        Returns:
            What was drawn.

        Raises:
            InputError: if it cannot go on, or if there is a job that was not asked to.
            UnwritableVideo: if the disk is full, say; the segments that are finished stay.
        """
        journal = open_journal(self.parts, self.source.path, self.source.name, self.settings, resume)
        drawing = Drawing(self.source, self.stream, self.show)
        drawn: Lane[tuple[Frame, int]] = Lane(WAITING_FRAMES)
        failed: list[BaseException] = []
        writer = Thread(target=self._writing, args=(drawn, journal, failed), daemon=True)
        writer.start()
        gone_wrong: Exception | None = None
        try:
            sample = journal.segments[-1].sample if journal.segments else REJECTED
            drawing.run(lambda frame, timed: drawn.put((frame, timed.ticks)), journal.frames, sample)
        except ReaderGone:
            pass  # the writer failed: its error says more
        except Exception as error:
            gone_wrong = error
        drawn.end()
        writer.join()
        if not any(path.name != JOURNAL for path in self.parts.iterdir()):
            self._remove_parts()  # nothing was done
        if failed:
            raise self._explained(failed[0])
        self._join(journal)
        if gone_wrong:
            if not drawing.frames or not isinstance(gone_wrong, CaflowError | OSError | MemoryError):
                raise gone_wrong
            drawing.ended_early = str(gone_wrong)
        may_go_on = self.source.path is not None and (drawing.stopped or gone_wrong is not None)
        if self.parts.exists() and not may_go_on:
            self._remove_parts()
        return drawing

    def _writing(self, drawn: Lane[tuple[Frame, int]], journal: Journal, failed: list[BaseException]) -> None:
        """The writer's thread: one segment after the other."""
        writer: SegmentWriter | None = None
        done = 0
        try:
            for frame, ticks in drawn:
                done += 1
                if not (frame.untypical and self.drops_untypical):
                    if writer is None:
                        path = self.parts / f"{len(journal.segments):05d}{self.encoding.segment_suffix}"
                        height, width = frame.pixels.shape[:2]
                        writer, start = SegmentWriter(path, height, width, self.source.info, self.encoding), ticks
                    writer.write(frame.pixels, ticks)
                if writer is not None and done % self.segment_frames == 0:
                    writer.close()
                    to_disk(path)
                    journal.segments.append(Segment(path.name, done, start, frame.sample))
                    journal.write(self.parts)
                    writer, done = None, 0
            if writer is not None:
                writer.close()
                self._unfinished.append((path, start))
        except BaseException as error:
            failed.append(error)
            drawn.leave()

    def _join(self, journal: Journal) -> None:
        segments = [(self.parts / segment.file, segment.start) for segment in journal.segments] + self._unfinished
        if not segments:
            return
        whole = self.parts / f"joined{self.output.suffix}"
        try:
            self.lost = join_what_fits(segments, whole, self.source.along, self.source.info)
            whole.replace(self.output)
        except (OSError, import_av().FFmpegError) as error:
            whole.unlink(missing_ok=True)
            raise self._explained(error) from None

    def _explained(self, error: BaseException) -> BaseException:
        """What went wrong in writing, and where what is done is."""
        if not isinstance(error, import_av().FFmpegError | OSError):
            return error
        done = f"; what is done is in {self.parts}: its files play" if self.parts.exists() else ""
        way = ", and --resume goes on from them" if done and self.source.path else ""
        return UnwritableVideo(f"{self.output} cannot be written: {error}{done}{way}")

    def _remove_parts(self) -> None:
        for path in self.parts.iterdir():
            path.unlink()
        self.parts.rmdir()
