"""Source of `caflow video`: a file, numbered images, a pipe, a camera or a stream, and the part of it to read."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import click

from caflow_deploy.commands.option_values import NumberRange, options
from caflow_deploy.commands.pipes import PIPE, standard_input
from caflow_deploy.video.frame_source import CLOCK, Source, TimeRange
from caflow_deploy.video.live import LiveSource, is_live
from caflow_deploy.video.numbered import is_numbered
from caflow_deploy.video.open_source import cut_source, open_video
from caflow_deploy.video.pipe import PipeSource
from caflow_runtime.errors import InputError

PATIENCE_S = 60
"""Default of --patience, in seconds."""
TIME = re.compile(r"(?:(?:(\d{1,4}):)?(\d{1,4}):)?(\d{1,9}(?:\.\d{1,9})?)")
RATE = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(?:/(\d{1,6}))?")


def ticks(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """Parse a time of a video, such as 83.5 or 01:23.5, into ticks of `CLOCK`."""
    if text is None:
        return None
    found = TIME.fullmatch(text)
    if found is None:
        raise click.BadParameter(
            f"must be seconds or HH:MM:SS, such as 83.5 or 01:23.5; got {text!r}", context, parameter
        )
    hours, minutes, seconds = (Fraction(part or 0) for part in found.groups())
    return round((3600 * hours + 60 * minutes + seconds) / CLOCK)


def rate(context: click.Context, parameter: click.Parameter, text: str | None) -> Fraction | None:
    """Parse a number of frames per second, such as 25 or 30000/1001."""
    found = None if text is None else RATE.fullmatch(text)
    is_zero = found is not None and not (Fraction(found[1]) and Fraction(found[2] or 1))
    if text is not None and (found is None or is_zero):
        raise click.BadParameter(
            f"must be frames per second, such as 25 or 30000/1001; got {text!r}", context, parameter
        )
    return None if found is None else Fraction(found[1]) / Fraction(found[2] or 1)


@dataclass(frozen=True)
class SourceOptions:
    """Values of the options about the source."""

    drop: Literal["latest", "block"] | None
    duration: float | None
    patience: float | None
    rate: Fraction | None
    start: int | None
    end: int | None

    def __post_init__(self) -> None:
        if self.end is not None and self.end <= (self.start or 0):
            raise click.UsageError("--end must be later than --start")

    @property
    def cut(self) -> TimeRange:
        """The part of the source to read."""
        return TimeRange(self.start or 0, self.end)

    def open(self, address: str, keeps_alpha: bool, warn: Callable[[str], None]) -> Source:
        """Open any source, limited to the part to read.

        Arguments:
            address: a file, a pattern of numbered images, a camera's number, a URL, or - for standard input.
            keeps_alpha: whether frames of files keep their transparency. If not, they are put on white.
            warn: called with a line when a live source is lost, and when it is back.

        Raises:
            InputError: if an option does not fit the source.
            UnreadableImage, UnreadableVideo: if the source cannot be read.
        """
        if address == PIPE:
            return self._piped()
        if is_live(address) and not Path(address).exists():
            drops, patience = self.drop != "block", PATIENCE_S if self.patience is None else self.patience
            live = LiveSource(address, drops, self.duration, patience, warn)
            if not live.has_end:
                return self._uncut(live)
            live.close()
        if self.duration is not None:
            raise InputError(f"--duration requires a camera or a stream, but {address} is a file; give --end")
        self._refuse_live_options(address)
        return open_video(address if is_live(address) else Path(address), self.cut, self.rate, keeps_alpha)

    def rate_of(self, source: Source) -> str | None:
        """Return the rate of numbered images, which do not contain it. None for other sources."""
        is_images = source.path is not None and is_numbered(source.path) and not source.path.exists()
        return str(source.info.rate) if is_images else None

    def _piped(self) -> Source:
        given = standard_input("a video")
        if self.rate is not None or self.duration is not None:
            raise InputError("--rate and --duration do not work with standard input; give --end")
        self._refuse_live_options("standard input")
        return cut_source(PipeSource(given.fileno(), "standard input"), self.cut)

    def _refuse_live_options(self, name: str) -> None:
        for option, value in (("--drop", self.drop), ("--patience", self.patience)):
            if value is not None:
                raise InputError(f"{option} requires a camera or a stream as IN; got {name}; remove {option}")

    def _uncut(self, live: LiveSource) -> Source:
        """Return a live source. It has no beginning, so --start and --end are rejected."""
        if (self.start, self.end, self.rate) == (None, None, None):
            return live
        live.close()
        raise InputError(f"--start, --end and --rate do not work with the live source {live.name}; give --duration")


source_options = options(
    click.option(
        "--start",
        callback=ticks,
        metavar="TIME",
        help="Begin at this time of IN, in seconds or as HH:MM:SS: 83.5, 1:23.5 and 0:01:23.5 are the same time.",
    ),
    click.option(
        "--end",
        callback=ticks,
        metavar="TIME",
        help="End at this time of IN, in the format of --start: frames and sound from this time on are skipped.",
    ),
    click.option(
        "--rate",
        callback=rate,
        metavar="RATE",
        help="For numbered images: frames per second, such as 25 or 30000/1001.  [default: 25]",
    ),
    click.option(
        "--drop",
        type=click.Choice(["latest", "block"]),
        help="For a live source, a camera or a stream: what to do when frames arrive faster than they are "
        "processed. latest: skip all but the latest frame. block: process every frame, so that the result falls "
        "behind.  [default: latest]",
    ),
    click.option(
        "--duration",
        type=NumberRange(0, min_open=True),
        help="For a live source: length of the recording, in seconds.  [default: until the source ends]",
    ),
    click.option(
        "--patience",
        type=NumberRange(0),
        help="For a live source: how long to keep reconnecting after it is lost, in seconds; 0 stops immediately.  "
        f"[default: {PATIENCE_S}]",
    ),
)
"""Options about the source."""
