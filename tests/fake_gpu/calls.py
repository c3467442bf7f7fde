"""Calls of the fake libraries: counted, so that any of them can be made to fail, and checked for how they are used."""

import sys
from collections.abc import Callable
from threading import RLock, local
from types import FrameType
from typing import NoReturn

LOCK = RLock()
"""Held during every call: the fake GPU does one thing at a time."""
LINES = 4
OURS = ("/caflow_runtime/", "/caflow_export/")

Site = tuple[tuple[str, int], ...]
"""Whether streams are captured; then files and lines of the code under test that led to a call, innermost first."""


class Misuse(Exception):
    """A library is used in a way that a GPU may punish with wrong results, a crash, or memory that is never freed."""


class Calls:
    """What was called since the last `reset`."""

    def __init__(self) -> None:
        self.misuses: list[str] = []
        """All of them: the code under test may catch the exception."""
        self.reset()

    def reset(self) -> None:
        self.sites: list[Site] = []
        """Of each call."""
        self.captures = 0
        """How many streams are captured."""
        self._current = local()
        self.fails: Callable[[Site], bool] = lambda _: False
        """Whether the call that is made now fails."""
        self.is_lost = False
        """Whether the GPU does none of what is queued any more."""

    def must_fail(self) -> bool:
        """Count a call; return whether it has to fail."""
        self.sites.append((("captured", self.captures), *_lines()))
        return self.fails(self.sites[-1])

    def make_current(self) -> None:
        """The calling thread may use the GPU from here on."""
        self._current.is_set = True

    def check_current(self) -> None:
        """Whether the calling thread has made the GPU current, as all calls of the driver need."""
        if not getattr(self._current, "is_set", False):
            misuse("a thread uses the GPU that has not made it current")


def _lines() -> list[tuple[str, int]]:
    frame: FrameType | None = sys._getframe(2)
    found: list[tuple[str, int]] = []
    while frame is not None and len(found) < LINES:
        if any(part in frame.f_code.co_filename for part in OURS):
            found.append((frame.f_code.co_filename.rpartition("/")[2], frame.f_lineno))
        frame = frame.f_back
    return found


CALLS = Calls()


def misuse(text: str) -> NoReturn:
    """Raises:
    Misuse: and keeps it for the end of the test.
    """
    CALLS.misuses.append(text)
    raise Misuse(text)
