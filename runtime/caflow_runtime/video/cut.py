"""What of a video is wanted, where that is not all."""

import msgspec


class Cut(msgspec.Struct, frozen=True):
    """From one time to another, in ticks of `source.CLOCK` from the video's beginning on."""

    start: int = 0
    end: int | None = None
    """Frames from then on are left out; None is the video's end."""


WHOLE = Cut()
