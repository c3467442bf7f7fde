"""Progress lines with the remaining time, for commands without a progress bar."""

import time
from collections.abc import Callable

from caflow_runtime.pipeline.estimates import duration

MIN_S, MIN_SHARE = 10.0, 0.1
"""Least time in seconds, and least fraction of the work, between two progress lines; both must have passed."""


class ProgressReporter:
    """Progress lines with the remaining time: one after a small part of the work, others from time to time."""

    def __init__(self, say: Callable[[str], None] | None) -> None:
        """Start before the first part of the work.

        Arguments:
            say: function that prints a line; None if a progress bar is shown instead.
        """
        self.say = say
        self._began, self._before = time.monotonic(), 0.0
        self._is_warm = False
        self._last: tuple[float, float] | None = None
        """Time of the last line, and the fraction that was finished then."""

    def begin_at(self, share: float) -> None:
        """Estimate the speed from now on. Earlier work is ignored, because it ran at another speed.

        Arguments:
            share: fraction of the work that is finished, 0…1.
        """
        self._began, self._before = time.monotonic(), share

    def tell(self, share: float, what: str) -> None:
        """Print a progress line if enough time has passed since the last one.

        Arguments:
            share: fraction of the work that is finished, 0…1.
            what: description of the finished work, such as "3 of 25 images".
        """
        now = time.monotonic()
        if self.say is None or not self._before < share < 1:
            return
        if not self._is_warm and share - self._before < MIN_SHARE:
            # Memory is allocated during the first part, which makes it slow. A small first part is not counted.
            self._is_warm = True
            self.begin_at(share)
            return
        if self._last is not None and (now - self._last[0] < MIN_S or share - self._last[1] < MIN_SHARE):
            return
        self._last = now, share
        self.say(f"{what}, about {duration((now - self._began) * (1 - share) / (share - self._before))} left")
