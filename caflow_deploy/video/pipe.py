"""Videos on standard input and output: YUV4MPEG2, which has no length, no sound and no times of frames."""

import io
import select
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from caflow_deploy.video.frame_source import (
    CLOCK,
    FULL_RANGE,
    HD_LINES,
    TimedFrame,
    UnreadableVideo,
    VideoInfo,
    assumed_colours,
)
from caflow_deploy.video.opening import import_av
from caflow_deploy.video.rotation import pixels_of
from caflow_deploy.video.sink import as_encoded, colour_tags
from caflow_deploy.video.y4m import FRAME, LONGEST_LINE, MAGIC, PIXEL_FORMATS, PictureFormat, parse_line
from caflow_runtime.errors import InputError

POLL_S = 0.1
WANTED = "make it with ffmpeg -i IN -f yuv4mpegpipe -strict -1 -"


class PipeSource:
    """Source that reads frames from a pipe. A pipe cannot be read again."""

    path: Path | None = None
    along: str | None = None
    drops = False

    def __init__(self, descriptor: int, name: str) -> None:
        """Open a pipe and read its header.

        Arguments:
            descriptor: file descriptor of the pipe; it stays open.

        Raises:
            UnreadableVideo: if the pipe does not contain YUV4MPEG2, or its pixel format is not supported.
        """
        self.name = name
        self.ended_early: str | None = None
        self._pipe = _Reader(descriptor)
        self.format = self._first_line()
        self.info = self._info()

    def frames(self) -> Iterator[TimedFrame]:
        """Yield all frames. If the last frame is incomplete, it is skipped, and `ended_early` reports it.

        Raises:
            UnreadableVideo: if there is no complete frame.
        """
        matrix = "ITU709" if self.format.height >= HD_LINES else None
        number = 0
        for number in count():
            frame = self._next(number)
            if frame is None:
                break
            ticks = round(number / self.format.rate / CLOCK)
            yield TimedFrame(pixels_of(frame, matrix), ticks, time.monotonic())
        if not number and not self._pipe.is_given_up:
            raise UnreadableVideo(f"{self.name}: expected a video; got no complete frame")

    def close(self) -> None:
        self._pipe.is_given_up = True

    def _next(self, number: int) -> Any:
        """Return the next frame as a PyAV frame, or None at the end."""
        line = self._pipe.line()
        if line and not line.startswith(FRAME):
            self.ended_early = f"{self.name} is damaged after {number} frames: the data that follows is not a frame"
        if not line.startswith(FRAME):
            return None
        frame = import_av().VideoFrame(self.format.width, self.format.height, self.format.pixel_format)
        frame.color_range = self.info.colour["color_range"]
        for rows in _planes(frame):
            data = self._pipe.read(rows.size)
            if len(data) < rows.size:
                if not self._pipe.is_given_up:
                    self.ended_early = f"{self.name} ended in the middle of frame {number + 1}"
                return None
            rows[...] = np.frombuffer(data, np.uint8).reshape(rows.shape)
        return frame

    def _first_line(self) -> PictureFormat:
        line = self._pipe.line()
        if not line.startswith(MAGIC):
            what = "got other data" if line else "got no data"
            raise UnreadableVideo(f"{self.name}: expected YUV4MPEG2; {what}: {WANTED}")
        try:
            return parse_line(line)
        except ValueError as error:
            raise UnreadableVideo(f"{self.name} cannot be read: {error}") from None

    def _info(self) -> VideoInfo:
        given = self.format
        return VideoInfo(
            frames=None,
            rate=given.rate,
            height=given.height,
            width=given.width,
            bits=import_av().VideoFormat(given.pixel_format).components[0].bits,
            colour=assumed_colours(given.height, given.is_full_range),
            sample_aspect_ratio=given.sample_aspect_ratio,
            metadata={},
            pixel_format=given.pixel_format,
        )


class PipeWriter:
    """Writer of frames to a pipe, at a constant rate. Written frames cannot be changed or removed."""

    def __init__(self, out: BinaryIO, info: VideoInfo, pixel_format: str | None = None) -> None:
        """Prepare to write frames to a pipe.

        Arguments:
            pixel_format: FFmpeg's name of a format of YUV4MPEG2. None is the source's format if YUV4MPEG2 supports it.
                Otherwise it is 4:2:0, with 10 bits if the source has more than 8.

        Raises:
            InputError: if YUV4MPEG2 does not support the format.
        """
        usual = "yuv420p10le" if info.bits > 8 else "yuv420p"
        self.pixel_format = pixel_format or (info.pixel_format if info.pixel_format in PIXEL_FORMATS else usual)
        if self.pixel_format not in PIXEL_FORMATS:
            raise InputError(
                f"`pixel_format` must be one of {', '.join(sorted(PIXEL_FORMATS))} for standard output; got "
                f"{self.pixel_format}"
            )
        self.info = info
        self.frames = 0
        self._out = out
        self._colour = colour_tags(info, self.pixel_format)
        self._first: int | None = None
        self._is_even = True

    def write(self, pixels: NDArray[np.float32], ticks: int) -> None:
        """Write one frame, (H, W, 3) continuous pixel values.

        Raises:
            OSError: BrokenPipeError if the reader has closed the pipe.
        """
        height, width = pixels.shape[:2]
        self._first = ticks if self._first is None else self._first
        if not self.frames:
            is_full = self._colour["color_range"] == FULL_RANGE
            aspect = self.info.sample_aspect_ratio
            given = PictureFormat(width, height, self.info.rate, self.pixel_format, is_full, aspect)
            self._out.write(given.line)
        frame = as_encoded(pixels, self.pixel_format, self._colour)
        self._out.write(FRAME + b"\n")
        for rows in _planes(frame):
            self._out.write(rows.tobytes())
        self._out.flush()
        late = (ticks - self._first) * CLOCK - self.frames / self.info.rate
        self._is_even = self._is_even and abs(late) <= 1 / self.info.rate
        self.frames += 1

    @property
    def lost(self) -> list[str]:
        """Properties of the source that could not be kept, one line each."""
        if self._is_even:
            return []
        return [f"its frames have uneven times: in the pipe each frame is written once, at {self.info.rate} per second"]


class _Reader:
    """Reader of a pipe. Another thread may set `is_given_up`, which ends the waiting for more bytes."""

    def __init__(self, descriptor: int) -> None:
        self.is_given_up = False
        self._file = io.FileIO(descriptor, closefd=False)

    def read(self, size: int) -> bytes:
        """Return `size` bytes; fewer at the end of the pipe."""
        data, place = bytearray(size), 0
        while place < size and self._is_ready():
            got = self._file.readinto(memoryview(data)[place:])
            if not got:
                break
            place += got
        return bytes(data[:place])

    def line(self) -> bytes:
        """Return the next line with its line end, cut at `LONGEST_LINE` bytes; no bytes at the end of the pipe."""
        line = b""
        while len(line) < LONGEST_LINE and not line.endswith(b"\n") and (byte := self.read(1)):
            line += byte
        return line

    def _is_ready(self) -> bool:
        """Wait until there are bytes to read or the pipe has ended. Return False if the reading was given up."""
        while not self.is_given_up:
            if select.select([self._file], [], [], POLL_S)[0]:
                return True
        return False


def _planes(frame: Any) -> Iterator[NDArray[np.uint8]]:
    """Yield a writable view of each plane's bytes, (rows, bytes of a row), without the padding of rows."""
    samples = (frame.format.components[0].bits + 7) // 8
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
        yield rows[:, : plane.width * samples]
