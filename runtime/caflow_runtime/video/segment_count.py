"""Counts of a segment's frames, kept while the segment is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from caflow_runtime.bundle.manifest import File
from caflow_runtime.pipeline.results import REJECTED
from caflow_runtime.pipeline.stream import Frame
from caflow_runtime.video.parts import DrawnBy, Record, Report


@dataclass
class SegmentCount:
    """Counts of the frames of one segment."""

    samples: int
    """Number of samples that are drawn to choose each scene's sample."""
    sample: int | None
    """Sample of the last frame that was added, from 0.

    Before the first frame, it is the sample that the scene keeps from the previous segment, or None if there is none.
    """
    frames: int = 0
    written: int = 0
    """Number of frames that are not dropped."""
    rejected: int = 0
    untypical: int = 0
    start: int | None = None
    """Ticks of the first frame that is not dropped."""
    is_settled: bool = True
    _bits_per_dim: list[float] = field(default_factory=list)

    def add(self, frame: Frame, ticks: int, is_dropped: bool) -> None:
        """Count the next frame."""
        self.frames += 1
        self.rejected += frame.rejected
        self.untypical += frame.untypical
        is_chosen_again = frame.rejected or not (frame.starts_scene or frame.sample == self.sample)
        if is_chosen_again and self.samples > 1:
            self.is_settled = False
        if not frame.rejected:
            self._bits_per_dim.append(frame.bits_per_dim)
        if not is_dropped:
            self.written += 1
            self.start = ticks if self.start is None else self.start
        self.sample = frame.sample

    def record(self, number: int, first: int, file: File | None, drawn_by: DrawnBy, made_of: str) -> Record:
        """Return the record of the segment. Call this after all frames were added."""
        sample = REJECTED if self.sample is None else self.sample
        mean = _mean(self._bits_per_dim)
        report = Report(number, self.frames, self.rejected, self.untypical, sample, mean, self.start)
        return Record(report, first, file, self.written, self.is_settled, drawn_by, made_of)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
