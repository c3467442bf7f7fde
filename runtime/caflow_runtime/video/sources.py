"""Which source a file is, and what of a source is wanted."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from caflow_runtime.errors import InputError
from caflow_runtime.video.animation import AnimationSource, is_animation
from caflow_runtime.video.cut import WHOLE, Cut
from caflow_runtime.video.numbered import USUAL_RATE, NumberedSource, is_numbered
from caflow_runtime.video.source import CLOCK, FileSource, Source, TimedFrame


def open_video(path: Path | str, cut: Cut = WHOLE, rate: Fraction | None = None, keeps_alpha: bool = False) -> Source:
    """Open a video, an animation or numbered images.

    Arguments:
        path: of a file, or a pattern such as `frames/%05d.png`; or an address, as text.
        cut: what is wanted of it.
        rate: frames per second, of numbered images.
        keeps_alpha: frames of an animation or of images that are transparent have alpha; else they are on white.

    Raises:
        InputError, UnreadableImage, UnreadableVideo
    """
    return cut_source(_open(path, rate, keeps_alpha), cut)


def cut_source(source: Source, cut: Cut) -> Source:
    """What is wanted of a source."""
    return source if cut == WHOLE else CutSource(source, cut)


def frame_at(source: Source, time: int) -> TimedFrame:
    """The frame that is shown at a time; of one before the first, the first. The source cannot be read any further.

    Arguments:
        time: in ticks from the source's beginning on.

    Raises:
        InputError: if that is after its end.
        UnreadableVideo
    """
    wanted, found = source.info.origin + time, None
    if isinstance(source, FileSource):
        source.seek_before(wanted)
    for frame in source.frames():
        is_later = frame.ticks > wanted
        found = frame if found is None or not is_later else found
        if is_later:
            return found
    last = source.info.last_frame
    shown = last[1] if last else round(1 / (source.info.rate * CLOCK))
    if found is None or found.ticks + shown <= wanted:
        raise InputError(f"{source.name}: there is no frame at {float(time * CLOCK):g} s")
    return found


class CutSource:
    """Frames of a source between two times."""

    def __init__(self, source: Source, cut: Cut) -> None:
        self.name = source.name
        self.path = source.path
        self.along = source.along
        self.drops = source.drops
        self.info = replace(source.info, frames=None, cut=cut)
        self.ended_early: str | None = None
        self._source = source

    def frames(self) -> Iterator[TimedFrame]:
        """Those frames, at the source's own times.

        Raises:
            InputError: if there is none.
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
            until = "" if cut.end is None else f" to {float(cut.end * CLOCK):g}"
            raise InputError(f"{self.name}: there is no frame from {float(cut.start * CLOCK):g}{until} s")

    def close(self) -> None:
        self._source.close()


def _open(path: Path | str, rate: Fraction | None, keeps_alpha: bool) -> Source:
    if isinstance(path, Path) and is_numbered(path) and not path.exists():
        return NumberedSource(path, rate or USUAL_RATE, keeps_alpha)
    if rate is not None:
        raise InputError(f"{path}: has its own rate: --rate is for numbered images, such as frames/%05d.png")
    if isinstance(path, Path) and is_animation(path):
        return AnimationSource(path, keeps_alpha)
    return FileSource(path)
