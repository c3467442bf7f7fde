"""Frames of cameras and network streams, through OpenCV. A source that is lost is opened again until patience ends."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Any

import cv2
import numpy as np

from caflow_runtime.video.source import CLOCK, TimedFrame, UnreadableVideo, VideoInfo, assumed_colours

OPEN_TIMEOUT_MS = 10_000
READ_TIMEOUT_MS = 4_000
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0
"""Between two tries to open what was lost: twice as long each time."""
TOLERANCE_S = 2.0
"""By which a source's clock may differ from the wall's before it is no longer believed."""
FASTEST_RATE = 240
OPTIONS_VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
STREAMS = ("rtsp", "rtp", "udp", "srt", "rtmp")
STREAM_OPTIONS = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay"
OPTIONS = "flags;low_delay"
"""Without `nobuffer` the frames that came while OpenCV looked at a stream are delivered first: a second behind. With it
whole files that a server has give no frame at all."""
STALL_S = 30.0
"""A clock that is late is believed again if it kept pace for so long: that was a stall."""

Notify = Callable[[str], None]
"""Is told in a line when a source is lost, and when it is back."""


def is_live(address: str) -> bool:
    """Whether that is a camera's number or an address, and not a file's name."""
    return address.isdecimal() or "://" in address


class LiveClock:
    """When frames are shown: as the source says while its clock keeps pace with the wall's, else when they came."""

    def __init__(self, believed: bool) -> None:
        """`believed`: whether the source has a clock at all."""
        self.believed = self._exists = believed
        self._began: float | None = None
        self._last = -1
        self._connected: tuple[float, float] | None = None

    def reconnect(self) -> None:
        """The source counts from the start again."""
        self._connected, self.believed = None, self._exists

    def ticks(self, said_s: float, now: float) -> int:
        """Of `CLOCK`, from the first frame on, each later than the last.

        Arguments:
            said_s: the source's time.
            now: the wall's, `time.monotonic`.
        """
        self._began = now if self._began is None else self._began
        wall = now - self._began
        if self._connected is None:
            self._connected = wall, said_s
        seconds = self._connected[0] + said_s - self._connected[1]
        if abs(seconds - wall) > TOLERANCE_S:
            self.believed = self.believed and seconds < wall and wall - self._connected[0] > STALL_S
            self._connected, seconds = (wall, said_s), wall
        self._last = max(self._last + 1, round((seconds if self.believed else wall) / CLOCK))
        return self._last


class LiveSource:
    """A camera or a stream, without sound."""

    path: Path | None = None
    along: str | None = None

    def __init__(
        self,
        address: str,
        drops: bool = True,
        duration_s: float | None = None,
        patience_s: float = 60.0,
        notify: Notify | None = None,
    ) -> None:
        """
        Arguments:
            address: a camera's number, or a URL that FFmpeg knows.
            drops: whether a frame that is not taken in time gives way to the next one; else it is waited for.
            duration_s: of what is recorded; None ends with the source.
            patience_s: how long a lost source is waited for; 0 ends at once.

        Raises:
            UnreadableVideo: if it cannot be opened, or gives no frame.
        """
        self.address = address
        self.name = _without_password(address)
        self.drops = drops
        self.duration_s = duration_s
        self.patience_s = patience_s
        self.notify = notify or (lambda _: None)
        self.ended_early: str | None = None
        self._capture = _open(address)
        ok, first = self._capture.read()
        if not ok:
            self._capture.release()
            raise UnreadableVideo(f"{self.name}: cannot be opened, or gives no frame: is it there, and free?")
        self.has_end = not address.isdecimal() and int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)) > 0
        """Whether it is no live source, but a file that a server has: `FileSource` reads it whole."""
        self._closed = Event()
        self.info = self._info(*first.shape[:2])
        self._first: tuple[Any, float, float] | None = first, self._said_s(), time.monotonic()

    def frames(self) -> Iterator[TimedFrame]:
        """All frames, until the time is up, the source ends, or it is lost for too long: then `ended_early` says so."""
        clock = LiveClock(believed=self._has_clock())
        deadline = None if self.duration_s is None else time.monotonic() + self.duration_s
        try:
            while True:
                for bgr, said_s, now in self._until_lost():
                    ticks = clock.ticks(said_s, now)
                    if self.duration_s is not None and ticks * CLOCK >= self.duration_s:
                        return
                    yield TimedFrame(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8), ticks, now)
                if not self._reopen(deadline):
                    return
                clock.reconnect()
        finally:
            self._capture.release()

    def close(self) -> None:
        self._closed.set()

    def _until_lost(self) -> Iterator[tuple[Any, float, float]]:
        """Pictures with the source's time and the wall's.

        A frozen stream gives what the decoder still holds only after the timeout: how long a read takes says more than
        what it returns.
        """
        if self._first is not None:
            first, self._first = self._first, None
            yield first
        while not self._closed.is_set():
            began = time.monotonic()
            ok, bgr = self._capture.read()
            now = time.monotonic()
            if not ok or now - began >= READ_TIMEOUT_MS / 1000:
                return
            yield bgr, self._said_s(), now

    def _reopen(self, deadline: float | None) -> bool:
        """Whether the source is back; waits for it twice as long after each try."""
        self._capture.release()
        lost = time.monotonic()
        give_up = lost + self.patience_s
        if self.patience_s > 0 and not self._closed.is_set():
            self.notify(f"{self.name} is lost: trying again for {self.patience_s:.0f} s")
        wait = FIRST_WAIT_S
        while time.monotonic() + wait < min(give_up, deadline or give_up):
            if self._closed.wait(wait):
                return False
            wait = min(2 * wait, LONGEST_WAIT_S)
            self._capture = _open(self.address)
            ok, bgr = self._capture.read()
            if ok:
                self._first = bgr, self._said_s(), time.monotonic()
                self.notify(f"{self.name} is back after {time.monotonic() - lost:.1f} s")
                return True
            self._capture.release()
        if not self._closed.is_set():
            self.ended_early = f"{self.name} gave no frame for {time.monotonic() - lost:.0f} s"
        return False

    def _said_s(self) -> float:
        return float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000

    def _has_clock(self) -> bool:
        """A camera has none, and for Motion JPEG OpenCV makes one up, of 25 frames per second."""
        code = int(self._capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True)
        return not self.address.isdecimal() and code.upper() != b"MJPG"

    def _info(self, height: int, width: int) -> VideoInfo:
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        return VideoInfo(
            frames=None,
            rate=Fraction(rate).limit_denominator(1001) if 1 <= rate <= FASTEST_RATE else Fraction(25),
            height=height,
            width=width,
            bits=8,
            colour=assumed_colours(height),
            sample_aspect_ratio=None,
            metadata={},
        )


def _open(address: str) -> cv2.VideoCapture:
    if address.isdecimal():
        camera = cv2.VideoCapture(int(address))
        camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return camera
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MS]
    # Each thread of the decoder holds a frame back, and a frozen stream is noticed only one timeout after the other.
    with _capture_options(STREAM_OPTIONS if address.lower().startswith(STREAMS) else OPTIONS):
        return cv2.VideoCapture(address, cv2.CAP_FFMPEG, [*timeouts, cv2.CAP_PROP_N_THREADS, 1])


@contextmanager
def _capture_options(options: str) -> Iterator[None]:
    """OpenCV takes FFmpeg's options from the environment alone; what the user has set there stays."""
    if OPTIONS_VARIABLE in os.environ:
        yield
        return
    os.environ[OPTIONS_VARIABLE] = options
    try:
        yield
    finally:
        del os.environ[OPTIONS_VARIABLE]


def _without_password(address: str) -> str:
    """For messages, journals and windows."""
    return re.sub(r"//[^/@]*@", "//", address)
