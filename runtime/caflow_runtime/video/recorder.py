"""Writing of frames to segments, with their records, in one process."""

from dataclasses import dataclass, field
from pathlib import Path

from caflow_runtime.bundle.reading import describe_file
from caflow_runtime.pipeline.stream import Frame
from caflow_runtime.video.join import VideoPart, count_frames
from caflow_runtime.video.parts import (
    Record,
    Report,
    VideoSettings,
    first_missing,
    parts_in,
    segment_name,
    write_record,
)
from caflow_runtime.video.segment_count import SegmentCount
from caflow_runtime.video.segment_lengths import first_frame, frames_of_segment
from caflow_runtime.video.sink import SegmentWriter
from caflow_runtime.video.source import VideoInfo
from caflow_runtime.whole_files import to_disk


@dataclass
class Recorder:
    """Writes the segments of a job that have no record yet, in order."""

    folder: Path
    settings: VideoSettings
    info: VideoInfo
    records: dict[int, Record]
    """Records of finished segments, by segment number."""
    _count: SegmentCount | None = field(default=None, init=False)
    _writer: SegmentWriter | None = field(default=None, init=False)

    @property
    def frames(self) -> int:
        """Number of frames of the source that `parts` covers."""
        return sum(count.frames for count in self._counts)

    @property
    def finished(self) -> int:
        """Number of frames of the source in the segments before the first one without a record."""
        return sum(self.records[number].report.frames for number in range(self._number))

    @property
    def rejected(self) -> int:
        """Number of these frames for which no sample was finite."""
        return sum(count.rejected for count in self._counts)

    @property
    def untypical(self) -> int:
        """Number of these frames that are untypical."""
        return sum(count.untypical for count in self._counts)

    @property
    def parts(self) -> list[VideoPart]:
        """Files that can be joined, in order. Call `close` first.

        They are the segments before the first one without a record, and the written part of that one.
        """
        parts = parts_in(self.folder, [self.records[number] for number in range(self._number)])
        if self._writer is not None and self._count is not None and self._count.start is not None:
            parts.append(VideoPart(self._path, self._count.start, self._writer.frames))
        return parts

    @property
    def is_empty(self) -> bool:
        """Whether no segment is finished, and no written file contains a frame."""
        return not self.records and not any(count_frames(part.path) for part in self.parts)

    def write(self, frame: Frame, ticks: int) -> None:
        """Write the next frame of a segment that has no record.

        Arguments:
            ticks: presentation timestamp, in ticks of `CLOCK`.

        Raises:
            InputError: if the codec does not support the size of the frame.
            FFmpegError, OSError: if the frame cannot be written.
        """
        if self._count is None:
            before = self.records[self._number - 1].report.sample if self._number else None
            self._count = SegmentCount(self.settings.streaming.draw.n, before)
        is_dropped = frame.untypical and self.settings.streaming.untypical == "drop"
        if not is_dropped:
            if self._writer is None:
                self._path.unlink(missing_ok=True)  # damaged, or incomplete
                height, width = frame.pixels.shape[:2]
                self._writer = SegmentWriter(self._path, height, width, self.info, self.settings.encoding)
            self._writer.write(frame.pixels, ticks, frame.alpha)
        self._count.add(frame, ticks, is_dropped)
        if self._count.frames == frames_of_segment(self._number, self.settings.segment_frames):
            self._finish(self._count)

    def close(self) -> None:
        """Finish the file of an incomplete last segment. A resumed job writes that segment again."""
        if self._writer is not None:
            self._writer.close()

    def _finish(self, count: SegmentCount) -> None:
        number, file = self._number, None
        if self._writer is not None:
            self._writer.close()
            to_disk(self._path)
            file = describe_file(self.folder, self._path.name)
        first = first_frame(number, self.settings.segment_frames)
        record = count.record(number, first, file, "one process", self.settings.made_of)
        write_record(self.folder, record)
        self._writer, self._count = None, None
        self.records[number] = record

    @property
    def _counts(self) -> list[Report | SegmentCount]:
        """Counts of the segments that `parts` covers."""
        counts: list[Report | SegmentCount] = [self.records[number].report for number in range(self._number)]
        return counts if self._count is None else [*counts, self._count]

    @property
    def _number(self) -> int:
        """Number of the segment that is being written."""
        return first_missing(self.records)

    @property
    def _path(self) -> Path:
        return self.folder / segment_name(self._number, self.settings.encoding.segment_suffix)
