"""The part of a video that is processed."""

import msgspec


class TimeRange(msgspec.Struct, frozen=True):
    """Range of a video, in ticks of `source.CLOCK` since the beginning of the video."""

    start: int = 0
    end: int | None = None
    """End of the range: frames from this time on are skipped. None is the end of the video."""


WHOLE = TimeRange()
