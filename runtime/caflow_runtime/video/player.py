"""Show frames while they are drawn, in a player that reads them from a pipe."""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from typing import BinaryIO, cast

from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.stream import Frame
from caflow_runtime.video.frame_source import TimedFrame, VideoInfo
from caflow_runtime.video.pipe import PipeWriter

PLAYERS = {
    "mpv": ("--really-quiet", "--untimed", "--title=caflow", "-"),
    "ffplay": ("-loglevel", "error", "-autoexit", "-window_title", "caflow", "-f", "yuv4mpegpipe", "-i", "-"),
}
"""Players, the preferred one first, with their arguments."""
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
"""Environment variables, of which Linux sets one if there is a display. Without a display, ffplay shows nothing."""
CANNOT_PLAY = (1, 2)
"""Exit codes of both players if they cannot open a window, or cannot read the frames."""


class Player:
    """Window of a video player. Frames that it cannot show in time make `show` wait."""

    def __init__(self, info: VideoInfo) -> None:
        """Start the first player of `PLAYERS` that is installed.

        Raises:
            InputError: if none is, or there is no display.
        """
        if sys.platform == "linux" and not any(map(os.environ.get, DISPLAYS)):
            raise InputError("--show requires a display, and there is none: set DISPLAY, or omit --show")
        name = next(filter(shutil.which, PLAYERS), None)
        if name is None:
            raise InputError(
                f"--show requires a player, {' or '.join(PLAYERS)}, which your system's packages contain; or write the "
                "frames to another program with -o -"
            )
        self._name = name
        self._process = subprocess.Popen([name, *PLAYERS[name]], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self._pipe = cast(BinaryIO, self._process.stdin)
        self._writer = PipeWriter(self._pipe, info)

    def show(self, frame: Frame, timed: TimedFrame) -> bool:
        """Show a frame. Return False if the user has closed the player.

        Raises:
            InputError: if the player failed.
        """
        try:
            self._writer.write(frame.pixels, timed.ticks)
        except BrokenPipeError:
            self._check_end()
            return False
        return True

    def close(self) -> None:
        """Wait until the player has shown all frames, or is closed.

        Raises:
            InputError: if the player failed.
        """
        with suppress(BrokenPipeError):
            self._pipe.close()
        self._check_end()

    def _check_end(self) -> None:
        if self._process.wait() in CANNOT_PLAY:
            raise InputError(f"{self._name} cannot show the frames")
