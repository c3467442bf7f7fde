"""A video file cut into segments, each with all that a process must know to draw it without the others.

Frames of a segment are found again by seeking to a key frame. Whether that gives them is up to the container and the
decoder, so each is held against the plan, and where one differs the file is decoded from its beginning.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import dropwhile, islice
from pathlib import Path
from zlib import crc32

import msgspec

from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.errors import InputError
from caflow_runtime.image import Image
from caflow_runtime.pipeline.scenes import SceneCuts
from caflow_runtime.video.cut import WHOLE, Cut
from caflow_runtime.video.job import SEGMENT_FRAMES
from caflow_runtime.video.source import FileSource, Source, UnreadableVideo, resized
from caflow_runtime.video.sources import open_video
from caflow_runtime.video.transparency import colours_of

ShowPlanned = Callable[[int], None]
"""Is given how many frames are done."""


class Stretch(msgspec.Struct, frozen=True):
    """Frames of a file that follow each other."""

    first: int
    """Number of the first among those that are wanted, from 0."""
    seek: int | None
    """`TimedFrame.seek` of the first."""
    ticks: tuple[int, ...]
    """When each is shown, of `CLOCK`."""
    checksums: tuple[int, ...]
    """CRC-32 of each picture: a decoder that begins in the middle may give others without a word."""


class Segment(msgspec.Struct, frozen=True):
    """What one process draws."""

    number: int
    """From 0."""
    source: str
    """SHA-256 of the file."""
    frames: Stretch
    scene: int
    """Of the first frame, from 0."""
    scene_start: Stretch
    """That scene's first frame alone."""
    cut: Cut = WHOLE
    """What of the file was planned."""


class Plan(msgspec.Struct, frozen=True):
    """A whole video."""

    segments: tuple[Segment, ...]
    ended_early: str | None
    """Why it ends before the file should, where it does."""

    @property
    def frames(self) -> int:
        """Of all segments."""
        return sum(len(segment.frames.ticks) for segment in self.segments)


def plan_segments(
    path: Path,
    segment_frames: int = SEGMENT_FRAMES,
    show: ShowPlanned | None = None,
    cut: Cut = WHOLE,
    keeps_alpha: bool = False,
) -> Plan:
    """Cut a file into segments of so many frames, the last one of what is left. Decodes all of it; needs no model.

    Arguments:
        cut: what is wanted of the file.
        keeps_alpha: whether what is drawn has the alpha of the file (`Encoding.has_alpha`).

    Raises:
        InputError, UnreadableVideo
    """
    if segment_frames < 1:
        raise InputError(f"segment_frames: wanted at least 1, got {segment_frames}")
    source, file_hash = open_video(path, cut, keeps_alpha=keeps_alpha), sha256_of(path)
    segments: list[Segment] = []
    marked = _marked(source, show)
    while some := list(islice(marked, segment_frames)):
        _, scene, scene_start = some[0]
        frames = _together([frame for frame, _, _ in some])
        segments.append(Segment(len(segments), file_hash, frames, scene, scene_start, cut))
    return Plan(tuple(segments), source.ended_early)


def pictures(path: Path, stretch: Stretch, keeps_alpha: bool = False) -> Iterator[Image]:
    """Exactly the frames of a stretch, wherever seeking leads: (h, w, 3) uint8 RGB, or (h, w, 4) where alpha is kept.

    Raises:
        UnreadableVideo: if the file is not the one that was planned.
    """
    done = 0
    for image in _sought(path, stretch):
        yield image
        done += 1
    if done < len(stretch.ticks):
        yield from _counted(path, stretch, done, keeps_alpha)


def _marked(source: Source, show: ShowPlanned | None) -> Iterator[tuple[Stretch, int, Stretch]]:
    """Each frame, the number of its scene, and that scene's first frame."""
    is_cut, scene, shape = SceneCuts(), -1, None
    for number, frame in enumerate(source.frames()):
        shape = shape or frame.image.shape
        if frame.image.shape != shape:
            source.ended_early = resized(source.name, shape, frame.image.shape)
            return
        one = Stretch(number, frame.seek, (frame.ticks,), (_checksum(frame.image),))
        if is_cut(colours_of(frame.image)):
            scene, scene_start = scene + 1, one
        yield one, scene, scene_start
        if show:
            show(number + 1)


def _checksum(image: Image) -> int:
    return crc32(image.data)


def _together(stretches: Sequence[Stretch]) -> Stretch:
    ticks = tuple(time for stretch in stretches for time in stretch.ticks)
    checksums = tuple(checksum for stretch in stretches for checksum in stretch.checksums)
    return Stretch(stretches[0].first, stretches[0].seek, ticks, checksums)


def _sought(path: Path, stretch: Stretch) -> Iterator[Image]:
    """Frames from a key frame on, as far as they are those of the stretch."""
    if stretch.seek is None:
        return
    source = FileSource(path)
    try:
        source.seek(stretch.seek)
        found = dropwhile(lambda frame: frame.ticks < stretch.ticks[0], source.frames())
        for ticks, checksum, frame in zip(stretch.ticks, stretch.checksums, found, strict=False):
            if (frame.ticks, _checksum(frame.image)) != (ticks, checksum):
                return
            yield frame.image
    except UnreadableVideo:  # there is no seeking in it, or nothing after
        return


def _counted(path: Path, stretch: Stretch, done: int, keeps_alpha: bool) -> Iterator[Image]:
    """Frames from the file's beginning on, without those that are done. What differs in its pixels is believed here."""
    source = open_video(path, keeps_alpha=keeps_alpha)
    found = dropwhile(lambda frame: frame.ticks < stretch.ticks[done], source.frames())
    for ticks, frame in zip(stretch.ticks[done:], found, strict=False):
        if frame.ticks != ticks:
            break
        yield frame.image
        done += 1
    if done < len(stretch.ticks):
        raise UnreadableVideo(
            f"{path}: has changed since it was planned, at frame {stretch.first + done}: plan it anew"
        )
