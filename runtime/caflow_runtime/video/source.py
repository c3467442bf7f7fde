"""Where frames come from, and what a result must keep of it. Files are read by PyAV, which keeps times and colours."""

import codecs
import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.errors import CaflowError, InputError
from caflow_runtime.image import Image
from caflow_runtime.video.cut import WHOLE, Cut

CLOCK = Fraction(1, 90_000)
"""Times are counted in these, as MPEG does: exact for every usual frame rate."""
HD_LINES = 720
"""From so many lines on players take a video without a colour tag for BT.709, below for BT.601."""
TAGS = ("color_range", "colorspace", "color_primaries", "color_trc")
BT709, BT601 = 1, 6
LIMITED_RANGE, FULL_RANGE, UNSPECIFIED = 1, 2, 2
SOUGHT_BY_DTS = ("mpegts", "mpeg")
"""Containers without an index: FFmpeg compares times to decode frames at, in others times to show them at."""
AS_WINDOWS_1252 = "caflow_runtime.as_windows_1252"
"""Name of the handler for errors of decoding."""
DURATION = re.compile(r"(\d{1,6}):(\d{2}):(\d{2}(?:\.\d{1,12})?)")
"""Matroska's tag."""
CUT_OFF_S = Fraction(1, 4)
"""By which a picture may end earlier than its container says."""
INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""Containers whose index leads to a frame at, or before, a time."""
SOUGHT_EARLIER_S = 10
"""So much before the frame that is wanted: frames right after a key frame may need others that come before it."""


class UnreadableVideo(CaflowError, ValueError):
    """A file or an address gives no frames."""


class UnwritableVideo(CaflowError, OSError):
    """A video cannot be written."""


@dataclass(frozen=True)
class TimedFrame:
    """A frame and when it is shown."""

    image: Image
    """(h, w, 3) uint8 RGB, upright; (h, w, 4) RGBA where `VideoInfo.has_alpha`."""
    ticks: int
    """Of `CLOCK`."""
    captured: float
    """When it was read, in seconds of `time.monotonic`."""
    seek: int | None = None
    """Where `FileSource.seek` finds it; None where only decoding from the file's beginning does."""


@dataclass(frozen=True)
class VideoInfo:
    """What a result must keep of its source."""

    frames: int | None
    """Where the container says; None for what has no end."""
    rate: Fraction
    """Frames per second, on average."""
    height: int
    width: int
    """As it is stored: where a rotation tag says so, frames are turned."""
    bits: int
    """Of a colour component: 8, or 10 and more."""
    colour: dict[str, int]
    """FFmpeg's numbers of `TAGS`; where the source says nothing, what players assume."""
    sample_aspect_ratio: Fraction | None
    """Width of a pixel over its height, of the upright frame."""
    metadata: dict[str, str]
    pixel_format: str = "yuv420p"
    """FFmpeg's name."""
    origin: int = 0
    """Ticks of the beginning, where the first sound or picture is; frames have the source's own times."""
    cut: Cut = WHOLE
    """What of the source is wanted."""
    plays: int | None = None
    """How often an animation is shown; 0 is for ever, None where the source is none."""
    last_frame: tuple[int, int] | None = None
    """Ticks of an animation's last frame, and for how many it is shown."""
    has_alpha: bool = False
    """Whether frames are given with alpha."""

    @property
    def zero(self) -> int:
        """Ticks that the result begins with, so that sound stays in step; of a whole source, its own."""
        return 0 if self.cut == WHOLE else self.origin + self.cut.start


class Source(Protocol):
    """Gives frames once, in order."""

    name: str
    """For people."""
    path: Path | None
    """Of a file here: its job can go on after a stop."""
    along: str | None
    """Where sound and subtitles are, for FFmpeg."""
    info: VideoInfo
    drops: bool
    """Whether a frame that is not taken in time gives way to the next one."""
    ended_early: str | None
    """Why it ended before its end, where it did."""

    def frames(self) -> Iterator[TimedFrame]:
        """All frames; lets go of the source at the end."""

    def close(self) -> None:
        """From any thread: let `frames` end soon."""


class FileSource:
    """A file's frames, in order. The file may be on a server."""

    def __init__(self, path: Path | str) -> None:
        """
        Arguments:
            path: of a file, or an address, as text.

        Raises:
            InputError, UnreadableVideo
        """
        av = import_av()
        if isinstance(path, Path) and path.is_dir():
            raise InputError(f"{path}: wanted a video, this is a folder: give the files in it one by one")
        if isinstance(path, Path) and not path.is_file():
            raise InputError(f"{path}: there is no such file")
        self.name = str(path)
        self.along: str | None = str(path)
        self.path = path if isinstance(path, Path) else None
        self._closed = False
        self.drops = False
        try:
            self.container = open_to_read(str(path))
        except av.FFmpegError as error:
            raise UnreadableVideo(f"{path}: not a video that can be read: {error.strerror}") from None
        if not self.container.streams.video:
            raise UnreadableVideo(f"{path}: wanted a video, there is no picture in it")
        self.stream = self.container.streams.video[0]
        if self.stream.codec_context is None:
            raise UnreadableVideo(f"{path}: its picture is in a codec that FFmpeg does not know")
        self.stream.thread_type = "AUTO"
        self.ended_early: str | None = None
        self.info = self._info()
        self._is_sought = False
        self._keys: deque[tuple[int, int]] = deque()
        """Ticks, and time to seek to, of the last key frame that was given, and of later ones."""

    def seek(self, time: int) -> None:
        """Let `frames` begin with the key frame at, or somewhat before, a frame with that `seek`.

        Which frame comes first is the container's affair: look at its ticks.

        Raises:
            UnreadableVideo: if the container cannot be sought in.
        """
        self._is_sought = True
        try:
            self.container.seek(time, stream=self.stream)
        except import_av().FFmpegError as error:
            raise UnreadableVideo(f"{self.name}: cannot be sought in: {error.strerror}") from None

    def seek_before(self, ticks: int) -> None:
        """Let `frames` begin before a time, as late as the frames from that time on are sure to be right.

        Raises:
            UnreadableVideo: if the container cannot be sought in.
        """
        time = ticks * CLOCK - SOUGHT_EARLIER_S
        if self.container.format.name in INDEXED and time > self.info.origin * CLOCK:
            self.seek(int(time / self.stream.time_base))

    def frames(self) -> Iterator[TimedFrame]:
        """All frames. A file that is damaged or cut off ends where it is, and `ended_early` says so."""
        av = import_av()
        last, longest, end, has_pts = -1, 0, Fraction(0), True
        step = round(1 / (self.info.rate * CLOCK))
        should = self._end()
        untagged_hd = self.stream.codec_context.colorspace == UNSPECIFIED and self.stream.height >= HD_LINES
        try:
            for frame in self._decoded():
                if self._closed:
                    return
                base = Fraction(frame.time_base or self.stream.time_base)
                # Raw H.264 has no times; in AVI those to show B-frames at are wrong, those to decode them at right.
                has_pts = has_pts and frame.pts is not None and (last < 0 or frame.pts * base > last * CLOCK)
                said = frame.pts if has_pts else frame.dts
                guessed = last + step if last >= 0 else 0
                ticks = guessed if said is None else max(last + 1, round(said * base / CLOCK))
                longest, last = max(longest, ticks - last), ticks
                end = last * CLOCK + (frame.duration or 0) * base
                image = upright(frame, "ITU709" if untagged_hd else None)
                key = self._key(last)
                yield TimedFrame(image, last, time.monotonic(), key if has_pts else None)
        except av.FFmpegError as error:
            self.ended_early = f"{self.name}: damaged after {last * float(CLOCK):.2f} s: {error.strerror}"
        finally:
            self.container.close()
        if last < 0:
            raise UnreadableVideo(f"{self.name}: wanted a video, not one frame of it can be decoded")
        if self.ended_early is None and should is not None and should - end > max(CUT_OFF_S, longest * CLOCK):
            self.ended_early = f"{self.name}: cut off: its picture ends at {float(end):.2f} of {float(should):.2f} s"

    def _decoded(self) -> Iterator[Any]:
        """Frames as FFmpeg gives them; key packets are noted, but for the first one, where decoding begins anyway."""
        base = Fraction(self.stream.time_base) / CLOCK
        by_dts = self.container.format.name in SOUGHT_BY_DTS
        for number, packet in enumerate(self.container.demux(self.stream)):
            is_first = number == 0 and not self._is_sought
            if not is_first and packet.is_keyframe and packet.pts is not None and packet.dts is not None:
                self._keys.append((round(packet.pts * base), packet.dts if by_dts else packet.pts))
            yield from packet.decode()

    def _key(self, ticks: int) -> int | None:
        """Where the last key frame is that is shown by then."""
        while len(self._keys) > 1 and self._keys[1][0] <= ticks:
            self._keys.popleft()
        return self._keys[0][1] if self._keys and self._keys[0][0] <= ticks else None

    def _end(self) -> Fraction | None:
        """When the picture should end, where the container says: of a file that is cut off no decoder says a word."""
        if self.stream.duration is not None:
            return Fraction((self.stream.start_time or 0) + self.stream.duration) * Fraction(self.stream.time_base)
        said = DURATION.fullmatch(self.stream.metadata.get("DURATION", ""))
        if said is None:
            return None
        hours, minutes, seconds = map(Fraction, said.groups())
        return hours * 3600 + minutes * 60 + seconds

    def close(self) -> None:
        self._closed = True

    def _info(self) -> VideoInfo:
        stream, context = self.stream, self.stream.codec_context
        colour = {tag: int(getattr(context, tag)) for tag in TAGS}
        assumed = BT709 if stream.height >= HD_LINES else BT601
        known = {tag: assumed if value in (0, UNSPECIFIED) else value for tag, value in colour.items()}
        known["color_range"] = colour["color_range"] or LIMITED_RANGE
        known["colorspace"] = assumed if colour["colorspace"] == UNSPECIFIED else colour["colorspace"]
        return VideoInfo(
            frames=stream.frames or None,
            rate=Fraction(stream.average_rate or stream.guessed_rate or 25),
            height=stream.height,
            width=stream.width,
            bits=context.format.components[0].bits if context.format else 8,
            colour=known,
            sample_aspect_ratio=stream.sample_aspect_ratio,
            metadata=dict(self.container.metadata),
            pixel_format=context.pix_fmt or "yuv420p",
            origin=round(Fraction(self.container.start_time or 0, 1_000_000) / CLOCK),
        )


def open_to_read(address: str) -> Any:
    """A container, by PyAV. Tags that are not UTF-8, as in most old files, are read as Windows-1252, which includes
    what is printable of Latin-1.

    Raises:
        InputError: if PyAV is not installed.
        FFmpegError: if it cannot be opened.
    """
    codecs.register_error(AS_WINDOWS_1252, _as_windows_1252)
    return import_av().open(address, metadata_errors=AS_WINDOWS_1252)


def _as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    """What takes the place of bytes that are not UTF-8, and where to continue."""
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("windows-1252", "replace"), error.end


def import_av() -> ModuleType:
    """PyAV.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import av
    except ModuleNotFoundError:
        raise InputError("videos need PyAV: pip install 'caflow-deploy[video]'") from None
    return av


def assumed_colours(height: int, is_full_range: bool = False) -> dict[str, int]:
    """FFmpeg's numbers of `TAGS` that players assume of frames without tags."""
    matrix = BT709 if height >= HD_LINES else BT601
    names = ("colorspace", "color_primaries", "color_trc")
    return {"color_range": FULL_RANGE if is_full_range else LIMITED_RANGE, **dict.fromkeys(names, matrix)}


def resized(name: str, before: Sequence[int], after: Sequence[int]) -> str:
    """Why a video ends where the shape of its frames changes."""
    sizes = [f"{sides[1]}×{sides[0]}" for sides in (before, after)]
    return f"{name}: its picture changes from {sizes[0]} to {sizes[1]}"


def upright(frame: Any, matrix: str | None) -> Image:
    """Return a frame of PyAV as (h, w, 3) uint8 RGB, turned as its rotation tag says.

    Arguments:
        matrix: of its colours, by PyAV's name; None is what its tag says, or BT.601.
    """
    rgb = frame.reformat(format="rgb24", src_colorspace=matrix) if matrix else frame.reformat(format="rgb24")
    image: NDArray[np.uint8] = rgb.to_ndarray()
    turned = np.rot90(image, round(frame.rotation / 90) % 4)
    return np.ascontiguousarray(turned)  # FFmpeg pads the lines of most widths
