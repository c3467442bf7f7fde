"""Frames to segments of equal length, and the journal of those that are finished."""

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.bundle.reading import describe_file
from caflow_runtime.video.join import Part, count_frames
from caflow_runtime.video.journal import Journal, Segment, segment_name
from caflow_runtime.video.sink import Encoding, SegmentWriter, to_disk
from caflow_runtime.video.source import VideoInfo


@dataclass
class Recorder:
    """Writes a job's segments: first the damaged ones again, then those that come after all that are finished."""

    folder: Path
    journal: Journal
    info: VideoInfo
    encoding: Encoding
    segment_frames: int
    """Of the source, in each segment but the last."""
    damaged: deque[int]
    """Numbers of finished segments that are to be written again, ascending."""
    done: int = field(default=0, init=False)
    """Frames of the source in the segment that is not finished."""
    _writer: SegmentWriter | None = field(default=None, init=False)
    _start: int = field(default=0, init=False)

    @property
    def frames(self) -> int:
        """Of the source, in `parts`."""
        return self._number * self.segment_frames + self.done

    @property
    def parts(self) -> list[Part]:
        """All that can be joined, once `close` was called: the segments before the first damaged one, and what comes
        after them.
        """
        finished = self.journal.segments[: self._number]
        parts = [Part(self.folder / s.file.path, s.start, s.frames) for s in finished if s.file is not None]
        if self._writer is not None:
            parts.append(Part(self._path, self._start, self._writer.frames))
        return parts

    @property
    def is_empty(self) -> bool:
        """Whether nothing is finished, and nothing plays."""
        return not self.journal.segments and not any(count_frames(part.path) for part in self.parts)

    def write(self, pixels: NDArray[np.float32] | None, ticks: int, sample: int) -> None:
        """Take the next frame of the source.

        Arguments:
            pixels: (H, W, 3) continuous pixel values; None where the frame is dropped.
            ticks: when it is shown.
            sample: the one that its scene keeps.

        Raises:
            InputError: if the codec cannot hold such frames.
            FFmpegError, OSError: if it cannot be written.
        """
        self.done += 1
        if pixels is not None:
            if self._writer is None:
                self._path.unlink(missing_ok=True)  # a damaged one, or the beginning of one
                height, width = pixels.shape[:2]
                self._writer = SegmentWriter(self._path, height, width, self.info, self.encoding)
                self._start = ticks
            self._writer.write(pixels, ticks)
        if self.done == self.segment_frames:
            self._finish(sample)

    def close(self) -> None:
        """Finish the file of the last segment, which a job that is resumed writes again."""
        if self._writer is not None:
            self._writer.close()

    def _finish(self, sample: int) -> None:
        number, file, frames = self._number, None, 0
        if self._writer is not None:
            self._writer.close()
            to_disk(self._path)
            file, frames = describe_file(self.folder, self._path.name), self._writer.frames
        self.journal.segments[number : number + 1] = [Segment(file, frames, self._start, sample)]
        self.journal.write(self.folder)
        if self.damaged:
            self.damaged.popleft()
        self._writer, self.done = None, 0

    @property
    def _number(self) -> int:
        """Of the segment that is being written."""
        return self.damaged[0] if self.damaged else len(self.journal.segments)

    @property
    def _path(self) -> Path:
        return self.folder / segment_name(self._number, self.encoding.segment_suffix)
