"""Frames of cameras and network streams, read with OpenCV. A source that is lost is reopened for a limited time."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from threading import Event, Lock
from typing import Any

import cv2
import numpy as np

from caflow_deploy.video.frame_source import CLOCK, TimedFrame, UnreadableVideo, VideoInfo, assumed_colours
from caflow_deploy.video.opening import without_secrets

OPEN_TIMEOUT_MS = 10_000
READ_TIMEOUT_MS = 4_000
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0
"""First and longest wait between attempts to reopen a lost source, in seconds. Each wait is twice the last one."""
TOLERANCE_S = 2.0
"""Seconds by which a source's clock may differ from the wall clock before it is no longer trusted."""
FASTEST_RATE = 240
OPTIONS_VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
STREAMS = ("rtsp", "rtp", "udp", "srt", "rtmp")
STREAM_OPTIONS = "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay"
OPTIONS = "flags;low_delay"
"""FFmpeg's options for all other addresses, without `nobuffer`.

Streams need `nobuffer`. Without it, OpenCV first delivers the frames that arrived while it probed the stream, so the
picture is a second late. With it, complete files on a server yield no frame at all.
"""
STALL_S = 30.0
"""Seconds. After keeping pace for longer than this, a clock that falls behind is still trusted: the source stalled."""

Notify = Callable[[str], None]
"""Callback that receives one line when a source is lost, and one when it is back."""


def is_live(address: str) -> bool:
    """Return whether an address is a camera's number or a URL, not the name of a file."""
    return address.isdecimal() or "://" in address


class LiveClock:
    """Clock that assigns presentation timestamps to live frames.

    It uses the source's clock while that keeps pace with the wall clock, and the frames' arrival times otherwise.
    """

    def __init__(self, believed: bool) -> None:
        """Start before the first frame.

        Arguments:
            believed: whether the source has a clock.
        """
        self.believed = self._exists = believed
        self._began: float | None = None
        self._last = -1
        self._connected: tuple[float, float] | None = None

    def reconnect(self) -> None:
        """Adapt to a source that was reopened: its clock starts again."""
        self._connected, self.believed = None, self._exists

    def ticks(self, said_s: float, now: float) -> int:
        """Return the time of a frame since the first frame, in ticks of `CLOCK`. Each is later than the one before.

        Arguments:
            said_s: time of the frame by the source's clock, in seconds.
            now: arrival time of the frame by `time.monotonic`, in seconds.
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
    """Source that reads a camera or a network stream, without sound."""

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
        """Connect to a live source.

        Arguments:
            address: number of a camera, or a URL that FFmpeg supports.
            drops: drop frames that are not processed in time; otherwise wait until they are processed.
            duration_s: length of the recording, in seconds; None records until the source is lost or closed.
            patience_s: how long to keep reopening a lost source, in seconds; 0 stops immediately.
            notify: receives the messages about a lost source.

        Raises:
            UnreadableVideo: if the source cannot be opened, or yields no frame.
        """
        self.address = address
        self.name = without_secrets(address)
        self.drops = drops
        self.duration_s = duration_s
        self.patience_s = patience_s
        self.notify = notify or (lambda _: None)
        self.ended_early: str | None = None
        self._capture = _open(address)
        ok, first = self._capture.read()
        if not ok:
            self._capture.release()
            raise UnreadableVideo(
                f"{self.name} cannot be opened or sends no frames: check that it is available, and that no other "
                "program uses it"
            )
        self.has_end = not address.isdecimal() and int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)) > 0
        """Whether this is a complete file on a server, not a live source. `FileSource` reads such a file to its end."""
        self._closed = Event()
        self._begins, self._has_begun = Lock(), False
        self.info = self._info(*first.shape[:2])
        self._first: tuple[Any, float, float] | None = first, self._said_s(), time.monotonic()

    def frames(self) -> Iterator[TimedFrame]:
        """Yield frames until the duration has passed, `close` is called, or the source is lost for too long.

        If the source is lost, `ended_early` reports it. A source that has ended counts as lost.
        """
        with self._begins:
            if self._closed.is_set():  # and the connection has been released
                return
            self._has_begun = True
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
        """Make `frames` end soon, or release the connection if `frames` has not begun. May be called from any thread.

        OpenCV must not release a connection while another thread reads from it, so `frames` releases its own.
        """
        with self._begins:
            self._closed.set()
            if not self._has_begun:
                self._capture.release()

    def _until_lost(self) -> Iterator[tuple[Any, float, float]]:
        """Yield each picture in BGR with its time by the source's clock and its arrival time, until the source is lost.

        A frozen stream counts as lost by the duration of a read, not by its result: after the timeout, the read still
        succeeds with a frame that the decoder had buffered.
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
        """Try to reopen the source, with increasing waits. Return whether it is back."""
        self._capture.release()
        lost = time.monotonic()
        give_up = lost + self.patience_s
        if self.patience_s > 0 and not self._closed.is_set():
            self.notify(f"{self.name} is lost: reconnecting for up to {self.patience_s:.0f} s")
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
            self.ended_early = f"{self.name} sent no frame for {time.monotonic() - lost:.0f} s"
        return False

    def _said_s(self) -> float:
        return float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000

    def _has_clock(self) -> bool:
        """Return whether the source has a clock.

        A camera has none. For Motion JPEG, OpenCV invents timestamps at 25 frames per second.
        """
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
    # One decoder thread: each thread buffers a frame, and a frozen stream yields each of them only after a timeout.
    with _capture_options(STREAM_OPTIONS if address.lower().startswith(STREAMS) else OPTIONS):
        return cv2.VideoCapture(address, cv2.CAP_FFMPEG, [*timeouts, cv2.CAP_PROP_N_THREADS, 1])


@contextmanager
def _capture_options(options: str) -> Iterator[None]:
    """Set FFmpeg's options in the environment, the only place where OpenCV reads them.

    Options that the user has set there take precedence.
    """
    if OPTIONS_VARIABLE in os.environ:
        yield
        return
    os.environ[OPTIONS_VARIABLE] = options
    try:
        yield
    finally:
        del os.environ[OPTIONS_VARIABLE]
