"""A video file to another: read, draw and write at once, segment by segment, so that a stopped job can go on."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec

from caflow_runtime.bundle import sha256_of
from caflow_runtime.errors import InputError
from caflow_runtime.inputs import Image
from caflow_runtime.stream import Frame, Stream
from caflow_runtime.video.lane import Lane, ReaderGone
from caflow_runtime.video.sink import Encoding, SegmentWriter, join
from caflow_runtime.video.source import FileSource, TimedFrame, UnwritableVideo, import_av

JOURNAL = "journal.json"
WAITING_FRAMES = 8
SEGMENT_FRAMES = 240

Show = Callable[[Frame, int], None]
"""Is given each frame that is done, and its time in ticks of `CLOCK`."""


class Segment(msgspec.Struct, frozen=True):
    """A finished part of the result."""

    file: str
    frames: int
    start: int
    """Ticks."""
    sample: int
    """That the scene of its last frame keeps."""


class Journal(msgspec.Struct):
    """`journal.json`: what is finished, and of which job."""

    source: str
    """SHA-256."""
    settings: dict[str, Any]
    segments: list[Segment] = msgspec.field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """What became of a job."""

    frames: int
    lost: list[str]
    """What could not be kept of the source, a line each."""
    ended_early: str | None
    """Why the result is shorter than the source."""


@dataclass
class Job:
    """One file."""

    source: FileSource
    output: Path
    stream: Stream
    encoding: Encoding
    settings: dict[str, Any]
    """All that the result depends on: a job goes on only with the same."""
    segment_frames: int = SEGMENT_FRAMES
    show: Show | None = None
    unfinished: list[tuple[Path, int]] = field(default_factory=list)

    @property
    def parts(self) -> Path:
        """Where segments are until they are joined."""
        return self.output.with_name(f"{self.output.name}.parts")

    def run(self, resume: bool) -> Report:
        """Do it, or what is left of it. Ctrl-C ends it as the end of the source would.

        Raises:
            InputError: if it cannot go on, or if there is a job that was not asked to.
        """
        journal = self._open_journal(resume)
        done = sum(segment.frames for segment in journal.segments)
        read: Lane[TimedFrame] = Lane(WAITING_FRAMES)
        drawn: Lane[tuple[Frame, int]] = Lane(WAITING_FRAMES)
        reader = Thread(target=_filling(read, self.source.frames), daemon=True)
        failed: list[BaseException] = []
        writer = Thread(target=self._writing, args=(drawn, journal, failed), daemon=True)
        reader.start()
        writer.start()
        ended_early, count = None, done
        try:
            for frame, ticks in self._drawn(read, journal, done):
                drawn.put((frame, ticks))
                if self.show:
                    self.show(frame, ticks)
                count += 1
        except KeyboardInterrupt:
            ended_early = f"stopped after {count} frames"
        except ReaderGone:
            pass  # the writer failed: its error says more
        finally:
            read.leave()
            drawn.end()
            writer.join()
        if failed:
            raise self._explained(failed[0])
        segments = [(self.parts / segment.file, segment.start) for segment in journal.segments] + self.unfinished
        try:
            lost = join(segments, self.output, self.source.path, self.source.info) if segments else []
        except OSError as error:
            raise self._explained(error) from None
        ended_early = ended_early or self.source.ended_early
        if ended_early is None:
            self._remove_parts()
        return Report(count, lost, ended_early)

    def _drawn(self, read: Lane[TimedFrame], journal: Journal, done: int) -> Iterator[tuple[Frame, int]]:
        """Frames that are not done yet, with their times."""
        times: deque[int] = deque()
        timed = iter(read)
        for _ in range(done):
            self.stream.skip(next(timed).image, journal.segments[-1].sample)

        def images() -> Iterator[Image]:
            for frame in timed:
                times.append(frame.ticks)
                yield frame.image

        for frame in self.stream(images()):
            yield frame, times.popleft()

    def _writing(self, drawn: Lane[tuple[Frame, int]], journal: Journal, failed: list[BaseException]) -> None:
        """The writer's thread: one segment after the other."""
        writer: SegmentWriter | None = None
        try:
            for frame, ticks in drawn:
                if writer is None:
                    path = self.parts / f"{len(journal.segments):05d}{self.encoding.segment_suffix}"
                    height, width = frame.pixels.shape[:2]
                    writer, start = SegmentWriter(path, height, width, self.source.info, self.encoding), ticks
                writer.write(frame.pixels, ticks)
                if writer.frames == self.segment_frames:
                    writer.close()
                    journal.segments.append(Segment(path.name, writer.frames, start, frame.sample))
                    _write(self.parts / JOURNAL, journal)
                    writer = None
            if writer is not None:
                writer.close()
                self.unfinished.append((path, start))
        except BaseException as error:
            failed.append(error)
            drawn.leave()

    def _open_journal(self, resume: bool) -> Journal:
        path = self.parts / JOURNAL
        settings = msgspec.json.decode(msgspec.json.encode(self.settings))
        wanted = Journal(sha256_of(self.source.path), settings)
        if not path.is_file():
            if resume:
                raise InputError(f"{self.parts}: there is no job to go on with: leave out --resume")
            self.parts.mkdir(exist_ok=True)
            _write(path, wanted)
            return wanted
        if not resume:
            raise InputError(
                f"{self.parts} holds a job that was stopped: give --resume to go on, or remove that folder"
            )
        try:
            found = msgspec.json.decode(path.read_bytes(), type=Journal)
        except msgspec.DecodeError as error:
            raise InputError(f"{path} cannot be read: {error}: remove {self.parts} and begin anew") from None
        if found.source != wanted.source:
            raise InputError(f"{self.parts} is of another video than {self.source.path}: give the same, or remove it")
        for key, value in wanted.settings.items():
            if found.settings.get(key) != value:
                raise InputError(
                    f"{self.parts} was begun with {key} = {found.settings.get(key)!r}, now it is {value!r}: "
                    "give the same to go on, or remove it"
                )
        return found

    def _explained(self, error: BaseException) -> BaseException:
        """What went wrong in writing, and where what is done is."""
        if not isinstance(error, import_av().FFmpegError | OSError):
            return error
        return UnwritableVideo(
            f"{self.output} cannot be written: {error}; finished parts are in {self.parts}: --resume goes on from them"
        )

    def _remove_parts(self) -> None:
        for path in self.parts.iterdir():
            path.unlink()
        self.parts.rmdir()


def _filling(lane: Lane[TimedFrame], frames: Callable[[], Iterator[TimedFrame]]) -> Callable[[], None]:
    """The reader's thread."""

    def fill() -> None:
        try:
            for frame in frames():
                lane.put(frame)
        except ReaderGone:
            pass
        except BaseException as error:
            lane.end(error)
            return
        lane.end()

    return fill


def _write(path: Path, journal: Journal) -> None:
    """Whole or not at all, even if the machine stops."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(msgspec.json.encode(journal))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
