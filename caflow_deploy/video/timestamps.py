"""Times of containers whose clock may start again, such as MPEG-TS files that were put together with `cat`.

The reader of pictures and the reader of sound open the source separately. Both demux the same streams with `steady`,
so they move the packets behind a restart by the same time, and pictures and sound stay in step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

RESTARTING = ("mpegts", "mpeg", "hls")
"""Containers whose clock may start again, by FFmpeg's names."""
FALL_S, LEAP_S = Fraction(1, 10), 600
"""Seconds. Decoding times of a stream that fall back, or leap ahead, by more than this are those of another clock."""
TOLERANCE_S = 5
"""Seconds by which the streams of a container may end apart from each other before a restart."""
GAP_S = 1
"""Seconds. After a longer gap, an earlier clock may have come back: a damaged file may contain single wrong times."""


@dataclass
class _Track:
    """Sound or pictures, up to a packet."""

    said: Fraction
    """Decoding time of the last packet in the container, in seconds."""
    end: Fraction
    """Time in the result at which the last packet ends, in seconds."""
    clock: int
    """Number of the stream's present clock, from 0."""
    last: int | None = None
    """Decoding time in the result of the last packet, in units of the stream."""


def is_restarting(container: Any) -> bool:
    """Return whether the clock of a PyAV container may start again."""
    return container.format.name in RESTARTING


def steady(container: Any, streams: Sequence[Any]) -> Iterator[Any]:
    """Demux streams of a PyAV container, and yield their packets with times that continue where the clock restarts.

    Packets without a decoding time, also the last ones of each stream, are yielded unchanged. A packet of sound that
    would be heard before, or with, the last packet of the clock before is skipped.
    """
    if not is_restarting(container):
        yield from container.demux(streams)
        return
    leading = [*container.streams.video, *container.streams.audio]
    wanted = {stream.index for stream in streams}
    others = [stream for stream in streams if stream not in leading]
    restarts = _Restarts()
    for packet in container.demux([*leading, *others]):
        moved = packet.dts is None or restarts.move(packet)
        if moved and packet.stream.index in wanted:  # `stream_index` is 0 in the packets that end the streams
            yield packet


class _Restarts:
    """Clocks of a container, and the time at which each began."""

    def __init__(self) -> None:
        self.offsets = [Fraction(0)]
        """Seconds to add to the times of each clock."""
        self.tracks: dict[int, _Track] = {}

    def move(self, packet: Any) -> bool:
        """Change the times of a packet to those of the result. Return False if it overlaps the last one."""
        if packet.stream.type not in ("video", "audio"):  # too rare to tell a restart from a pause
            self._add(packet, max((track.clock for track in self.tracks.values()), default=0))
            return True
        base, said = Fraction(packet.time_base), packet.dts * Fraction(packet.time_base)
        latest = len(self.offsets) - 1
        track = self.tracks.setdefault(packet.stream_index, _Track(said, said + self.offsets[latest], latest))
        if not -FALL_S <= said - track.said <= GAP_S:
            track.clock = self._clock_after(track, said)
        self._add(packet, track.clock)
        duration = packet.duration or 0
        is_sound, track.said = packet.stream.type == "audio", said
        if is_sound and track.clock and track.last is not None and packet.dts < track.last + duration / 2:
            return False
        track.last, track.end = packet.dts, (packet.dts + duration) * base
        return True

    def _clock_after(self, track: _Track, said: Fraction) -> int:
        """Return the number of the clock that says a time: one that is known, or a new one."""
        apart = [abs(said + offset - track.end) for offset in self.offsets]
        before, after = range(track.clock), range(track.clock + 1, len(apart))
        known = [clock for clock in before if apart[clock] <= FALL_S]
        if not known and 0 <= said - track.said <= LEAP_S:
            return track.clock  # only a gap
        known = known or [clock for clock in after if apart[clock] <= TOLERANCE_S]
        if not known:
            self.offsets.append(track.end - said)
            return len(self.offsets) - 1
        return min(known, key=lambda clock: apart[clock])

    def _add(self, packet: Any, clock: int) -> None:
        if clock:
            offset = round(self.offsets[clock] / Fraction(packet.time_base))
            packet.dts += offset
            packet.pts = None if packet.pts is None else packet.pts + offset
