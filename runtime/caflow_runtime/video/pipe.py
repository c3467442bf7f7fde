"""Videos through pipes, in and out: YUV4MPEG2, or raw RGB. Neither has an end, sound or times of its own."""

import io
import select
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.errors import InputError
from caflow_runtime.video.sink import as_encoded, colours_of
from caflow_runtime.video.source import (
    CLOCK,
    FULL_RANGE,
    HD_LINES,
    TimedFrame,
    UnreadableVideo,
    VideoInfo,
    assumed_colours,
    import_av,
    upright,
)
from caflow_runtime.video.y4m import FRAME, LONGEST_LINE, MAGIC, PIXEL_FORMATS, PictureFormat, parse_line

RAW_BYTES = {"rgb24": 3, "rgb48le": 6}
"""Pixel formats that are written without a line of text, and bytes of a pixel."""
POLL_S = 0.1
WANTED = "ffmpeg -i IN -f yuv4mpegpipe -strict -1 - makes it; for raw RGB give --raw WIDTHxHEIGHT@RATE"


class PipeSource:
    """Frames of a pipe, which cannot be read again."""

    path: Path | None = None
    along: str | None = None
    drops = False

    def __init__(self, descriptor: int, name: str, raw: PictureFormat | None = None) -> None:
        """
        Arguments:
            descriptor: of what is read; it stays open.
            raw: of frames that come without a line of text; None reads YUV4MPEG2.

        Raises:
            UnreadableVideo: if it is no YUV4MPEG2, or of colours that are not supported.
        """
        self.name = name
        self.ended_early: str | None = None
        self._pipe = _Reader(descriptor)
        self._has_lines = raw is None
        self.format = raw or self._first_line()
        self.info = self._info()

    def frames(self) -> Iterator[TimedFrame]:
        """All frames. Where the last one is cut off, `ended_early` says so."""
        matrix = "ITU709" if self.format.height >= HD_LINES else None
        number = 0
        for number in count():
            frame = self._next(number)
            if frame is None:
                break
            ticks = round(number / self.format.rate / CLOCK)
            yield TimedFrame(upright(frame, matrix), ticks, time.monotonic())
        if not number and not self._pipe.is_given_up:
            raise UnreadableVideo(f"{self.name}: wanted a video, not one whole frame came")

    def close(self) -> None:
        self._pipe.is_given_up = True

    def _next(self, number: int) -> Any:
        """A frame of PyAV; None at the end."""
        if self._has_lines:
            line = self._pipe.line()
            if line and not line.startswith(FRAME):
                self.ended_early = f"{self.name}: damaged after {number} frames: what follows is no frame"
            if not line.startswith(FRAME):
                return None
        frame = import_av().VideoFrame(self.format.width, self.format.height, self.format.pixel_format)
        frame.color_range = self.info.colour["color_range"]
        for k, rows in enumerate(_planes(frame)):
            data = self._pipe.read(rows.size)
            if len(data) < rows.size:
                if (data or k or self._has_lines) and not self._pipe.is_given_up:
                    self.ended_early = f"{self.name}: cut off within frame {number + 1}"
                return None
            rows[...] = np.frombuffer(data, np.uint8).reshape(rows.shape)
        return frame

    def _first_line(self) -> PictureFormat:
        line = self._pipe.line()
        if not line.startswith(MAGIC):
            what = "what came is none" if line else "nothing came"
            raise UnreadableVideo(f"{self.name}: wanted YUV4MPEG2, {what}: {WANTED}")
        try:
            return parse_line(line)
        except ValueError as error:
            raise UnreadableVideo(f"{self.name}: cannot be read: {error}") from None

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
    """Writes frames at a rate that stays the same; nothing can be taken back."""

    def __init__(self, out: BinaryIO, info: VideoInfo, pixel_format: str | None = None) -> None:
        """
        Arguments:
            pixel_format: FFmpeg's name: of raw RGB, or one that YUV4MPEG2 holds. None is the source's, or 4:2:0 with
                its bits.

        Raises:
            InputError: if there is no way to pipe such a format.
        """
        usual = "yuv420p10le" if info.bits > 8 else "yuv420p"
        self.pixel_format = pixel_format or (info.pixel_format if info.pixel_format in PIXEL_FORMATS else usual)
        if self.pixel_format not in (*PIXEL_FORMATS, *RAW_BYTES):
            raise InputError(
                f"--pixel-format {self.pixel_format}: wanted, for standard output, one of "
                f"{', '.join(sorted((*PIXEL_FORMATS, *RAW_BYTES)))}"
            )
        self.info = info
        self.frames = 0
        self._out = out
        self._colour = colours_of(info, self.pixel_format)
        self._first: int | None = None
        self._is_even = True

    def write(self, pixels: NDArray[np.float32], ticks: int) -> None:
        """Write (H, W, 3) continuous pixel values.

        Raises:
            OSError: BrokenPipeError if nobody reads any more.
        """
        is_y4m, (height, width) = self.pixel_format not in RAW_BYTES, pixels.shape[:2]
        self._first = ticks if self._first is None else self._first
        if is_y4m and not self.frames:
            is_full = self._colour["color_range"] == FULL_RANGE
            aspect = self.info.sample_aspect_ratio
            given = PictureFormat(width, height, self.info.rate, self.pixel_format, is_full, aspect)
            self._out.write(given.line)
        frame = as_encoded(pixels, self.pixel_format, self._colour)
        if is_y4m:
            self._out.write(FRAME + b"\n")
        for rows in _planes(frame):
            self._out.write(rows.tobytes())
        self._out.flush()
        late = (ticks - self._first) * CLOCK - self.frames / self.info.rate
        self._is_even = self._is_even and abs(late) <= 1 / self.info.rate
        self.frames += 1

    @property
    def lost(self) -> list[str]:
        """What of the source could not be kept as it was, a line each."""
        if self._is_even:
            return []
        return [f"its frames come at uneven times: in the pipe they are {self.info.rate} per second, each once"]


class _Reader:
    """Bytes of a pipe, as far as they come; another thread may end the waiting for more."""

    def __init__(self, descriptor: int) -> None:
        self.is_given_up = False
        self._file = io.FileIO(descriptor, closefd=False)

    def read(self, size: int) -> bytes:
        """So many bytes; fewer at the end."""
        data, place = bytearray(size), 0
        while place < size and self._is_ready():
            got = self._file.readinto(memoryview(data)[place:])
            if not got:
                break
            place += got
        return bytes(data[:place])

    def line(self) -> bytes:
        """Up to the end of a line, or as many bytes as one may have; none at the end."""
        line = b""
        while len(line) < LONGEST_LINE and not line.endswith(b"\n") and (byte := self.read(1)):
            line += byte
        return line

    def _is_ready(self) -> bool:
        """Whether there is something to read, or the end; waits for it unless it is given up."""
        while not self.is_given_up:
            if sys.platform == "win32" or select.select([self._file], [], [], POLL_S)[0]:  # no pipes on Windows
                return True
        return False


def _planes(frame: Any) -> Iterator[NDArray[np.uint8]]:
    """The bytes of each plane, (rows, bytes of a row), without what is between rows; they can be written to."""
    samples = RAW_BYTES.get(frame.format.name) or (frame.format.components[0].bits + 7) // 8
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
        yield rows[:, : plane.width * samples]
