"""Plan of a video file's segments. Each segment contains all that a process needs to draw it without the others.

A process finds the frames of its segment by seeking to a key frame. Some containers and decoders do not seek exactly,
so each frame is compared with the plan. If a frame differs, the file is decoded from its beginning instead.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import dropwhile, islice
from pathlib import Path
from zlib import crc32

import msgspec

from caflow_deploy.video.any_source import open_video
from caflow_deploy.video.file_source import FileSource
from caflow_deploy.video.frame_source import WHOLE, Source, TimeRange, UnreadableVideo, resized
from caflow_deploy.video.segment_lengths import SEGMENT_FRAMES, frames_of_segment
from caflow_deploy.video.transparency import without_alpha
from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.errors import InputError
from caflow_runtime.image_arrays import Image
from caflow_runtime.pipeline.scenes import SceneCuts

ShowPlanned = Callable[[int], None]
"""Callback that receives the number of frames planned so far."""


class FrameRange(msgspec.Struct, frozen=True):
    """Consecutive frames of a file."""

    first: int
    """Number of the first frame, from 0 at the start of the cut."""
    seek: int | None
    """`TimedFrame.seek` of the first frame."""
    ticks: tuple[int, ...]
    """Presentation timestamp of each frame, in ticks of `CLOCK`."""
    checksums: tuple[int, ...]
    """CRC-32 of each frame's pixels: a decoder that starts in the middle of a file may silently yield wrong pixels."""


class Segment(msgspec.Struct, frozen=True):
    """Part of a video that one process draws."""

    number: int
    """Number of the segment, from 0."""
    source: str
    """SHA-256 of the video file."""
    frames: FrameRange
    scene: int
    """Number of the first frame's scene, from 0."""
    scene_start: FrameRange
    """First frame of that scene."""
    cut: TimeRange = WHOLE
    """Part of the file that was planned."""


class Plan(msgspec.Struct, frozen=True):
    """All segments of a video."""

    segments: tuple[Segment, ...]
    ended_early: str | None
    """Why the video ends too early; None if it does not."""

    @property
    def frames(self) -> int:
        """Number of frames in all segments."""
        return sum(len(segment.frames.ticks) for segment in self.segments)


def plan_segments(
    path: Path,
    segment_frames: int = SEGMENT_FRAMES,
    show: ShowPlanned | None = None,
    cut: TimeRange = WHOLE,
    keeps_alpha: bool = False,
) -> Plan:
    """Cut a file into segments of `segment_frames` frames. The first ones and the last one may be shorter.

    The whole file is decoded for this. No model is needed.

    Arguments:
        cut: part of the file to plan.
        keeps_alpha: whether the result keeps the alpha of the file (`Encoding.has_alpha`).

    Raises:
        InputError, UnreadableVideo
    """
    if segment_frames < 1:
        raise InputError(f"segment_frames must be at least 1; got {segment_frames}")
    source, file_hash = open_video(path, cut, keeps_alpha=keeps_alpha), sha256_of(path)
    segments: list[Segment] = []
    marked = _marked(source, show)
    while some := list(islice(marked, frames_of_segment(len(segments), segment_frames))):
        _, scene, scene_start = some[0]
        frames = _together([frame for frame, _, _ in some])
        segments.append(Segment(len(segments), file_hash, frames, scene, scene_start, cut))
    return Plan(tuple(segments), source.ended_early)


def pictures(path: Path, stretch: FrameRange, keeps_alpha: bool = False) -> Iterator[Image]:
    """Yield exactly the frames of a stretch, even if seeking is not exact.

    Frames are (h, w, 3) uint8 RGB, or (h, w, 4) RGBA if alpha is kept.

    Raises:
        UnreadableVideo: if the file has changed since it was planned.
    """
    done = 0
    for image in _sought(path, stretch, keeps_alpha):
        yield image
        done += 1
    if done < len(stretch.ticks):
        yield from _counted(path, stretch, done, keeps_alpha)


def _marked(source: Source, show: ShowPlanned | None) -> Iterator[tuple[FrameRange, int, FrameRange]]:
    """Yield each frame, the number of its scene, and that scene's first frame."""
    is_cut, scene, shape = SceneCuts(), -1, None
    for number, frame in enumerate(source.frames()):
        shape = shape or frame.image.shape
        if frame.image.shape != shape:
            source.ended_early = resized(source.name, shape, frame.image.shape)
            return
        one = FrameRange(number, frame.seek, (frame.ticks,), (_checksum(frame.image),))
        if is_cut(without_alpha(frame.image)):
            scene, scene_start = scene + 1, one
        yield one, scene, scene_start
        if show:
            show(number + 1)


def _checksum(image: Image) -> int:
    return crc32(image.data)


def _together(stretches: Sequence[FrameRange]) -> FrameRange:
    ticks = tuple(time for stretch in stretches for time in stretch.ticks)
    checksums = tuple(checksum for stretch in stretches for checksum in stretch.checksums)
    return FrameRange(stretches[0].first, stretches[0].seek, ticks, checksums)


def _sought(path: Path, stretch: FrameRange, keeps_alpha: bool) -> Iterator[Image]:
    """Seek, and yield the frames of the stretch up to the first one that differs from the plan."""
    if stretch.seek is None:
        return
    source = FileSource(path, keeps_alpha)
    try:
        source.seek(stretch.seek)
        found = dropwhile(lambda frame: frame.ticks < stretch.ticks[0], source.frames())
        for ticks, checksum, frame in zip(stretch.ticks, stretch.checksums, found, strict=False):
            if (frame.ticks, _checksum(frame.image)) != (ticks, checksum):
                return
            yield frame.image
    except UnreadableVideo:  # the file does not support seeking, or no frame follows
        return


def _counted(path: Path, stretch: FrameRange, done: int, keeps_alpha: bool) -> Iterator[Image]:
    """Decode from the file's beginning, and yield the frames after the first `done`. Only their times are checked."""
    source = open_video(path, keeps_alpha=keeps_alpha)
    found = dropwhile(lambda frame: frame.ticks < stretch.ticks[done], source.frames())
    for ticks, frame in zip(stretch.ticks[done:], found, strict=False):
        if frame.ticks != ticks:
            break
        yield frame.image
        done += 1
    if done < len(stretch.ticks):
        raise UnreadableVideo(
            f"{path} has changed since it was planned, at frame {stretch.first + done + 1}: plan it again"
        )
