"""Opening of the right source for a file, and selection of a part of a source."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from math import ceil
from pathlib import Path

from caflow_deploy.video.animation import AnimationSource, is_animation
from caflow_deploy.video.file_source import FileSource
from caflow_deploy.video.frame_source import CLOCK, WHOLE, Source, TimedFrame, TimeRange, VideoInfo
from caflow_deploy.video.numbered import USUAL_RATE, NumberedSource, is_numbered
from caflow_deploy.video.opening import without_secrets
from caflow_runtime.errors import InputError


def open_video(
    path: Path | str, cut: TimeRange = WHOLE, rate: Fraction | None = None, keeps_alpha: bool = False
) -> Source:
    """Open a video, an animation or numbered images.

    Arguments:
        path: path of a file, a pattern such as `frames/%05d.png`, or an address as text.
        cut: part of the video to read.
        rate: frames per second of numbered images; None is 25.
        keeps_alpha: yield RGBA frames from transparent videos, animations and images. Otherwise their background is
            white.

    Raises:
        InputError, UnreadableImage, UnreadableVideo
    """
    return cut_source(_open(path, rate, keeps_alpha), cut)


def cut_source(source: Source, cut: TimeRange) -> Source:
    """Return a source that yields only the frames within a cut."""
    return source if cut == WHOLE else CutSource(source, cut)


class CutSource:
    """Source that yields the frames of another source between two times."""

    def __init__(self, source: Source, cut: TimeRange) -> None:
        """Select a part of a source.

        Raises:
            InputError: if the source is known to end before.
        """
        self.name = source.name
        self.path = source.path
        self.along = source.along
        self.drops = source.drops
        self.info = replace(source.info, frames=_frames_within(cut, source.info), cut=cut)
        self.ended_early: str | None = None
        self._source = source
        length = _length_of(source)
        if length is not None and cut.start * CLOCK >= length:
            source.close()
            raise self._nothing_within()

    def frames(self) -> Iterator[TimedFrame]:
        """Yield the frames within the cut, with the times of the original source.

        Raises:
            InputError: if there is no frame within the cut.
        """
        cut, origin, is_empty = self.info.cut, self.info.origin, True
        if isinstance(self._source, FileSource) and cut.start:
            self._source.seek_before(origin + cut.start)
        for frame in self._source.frames():
            if cut.end is not None and frame.ticks >= origin + cut.end:
                break
            if frame.ticks >= origin + cut.start:
                is_empty = False
                yield frame
        self.ended_early = self._source.ended_early
        if is_empty:
            raise self._nothing_within()

    def close(self) -> None:
        self._source.close()

    def _nothing_within(self) -> InputError:
        cut = self.info.cut
        until = "" if cut.end is None else f" to {float(cut.end * CLOCK):g}"
        return InputError(f"{self.name}: there is no frame from {float(cut.start * CLOCK):g}{until} s")


def _length_of(source: Source) -> Fraction | None:
    """Return the length of a source in seconds; None if it is unknown."""
    if isinstance(source, FileSource):
        end = source.end()
        return None if end is None else end - source.info.origin * CLOCK
    return None if source.info.frames is None else source.info.frames / source.info.rate


def _frames_within(cut: TimeRange, info: VideoInfo) -> int | None:
    """Return how many frames a cut contains if all are shown equally long; None if the source's number is unknown."""
    if info.frames is None:
        return None
    first, end = (ceil(ticks * CLOCK * info.rate) for ticks in (cut.start, cut.end or 0))
    return max(0, (info.frames if cut.end is None else min(info.frames, end)) - first)


def _open(path: Path | str, rate: Fraction | None, keeps_alpha: bool) -> Source:
    if isinstance(path, Path) and is_numbered(path) and not path.exists():
        return NumberedSource(path, rate or USUAL_RATE, keeps_alpha)
    if rate is not None:
        raise InputError(
            f"{without_secrets(str(path))} has its own frame rate: `rate` is only for numbered images, such as "
            "frames/%05d.png"
        )
    if isinstance(path, Path) and is_animation(path):
        return AnimationSource(path, keeps_alpha)
    return FileSource(path, keeps_alpha)
