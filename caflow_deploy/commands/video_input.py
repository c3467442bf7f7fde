"""What `caflow video` reads: a file, numbered images, a pipe, a camera or a stream, and how much of it."""

import re
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import click

from caflow_deploy.commands.options import Command, NumberRange
from caflow_deploy.commands.standard_streams import PIPE
from caflow_runtime.errors import InputError
from caflow_runtime.video.cut import Cut
from caflow_runtime.video.live import LiveSource, is_live
from caflow_runtime.video.numbered import is_numbered
from caflow_runtime.video.pipe import PipeSource
from caflow_runtime.video.source import CLOCK, Source
from caflow_runtime.video.sources import cut_source, open_video
from caflow_runtime.video.y4m import PictureFormat

TIME = re.compile(r"(?:(?:(\d{1,4}):)?(\d{1,4}):)?(\d{1,9}(?:\.\d{1,9})?)")
RATE = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(?:/(\d{1,6}))?")
RAW = re.compile(r"(\d{1,5})x(\d{1,5})@([\d./]+)(?::(rgb24|rgb48le))?")


def ticks(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """The callback of an option that takes a time of a video, which counts ticks of `CLOCK`."""
    if text is None:
        return None
    found = TIME.fullmatch(text)
    if found is None:
        raise click.BadParameter(
            f"wanted seconds or HH:MM:SS, such as 83.5 or 01:23.5, got {text!r}", context, parameter
        )
    hours, minutes, seconds = (Fraction(part or 0) for part in found.groups())
    return round((3600 * hours + 60 * minutes + seconds) / CLOCK)


def rate(context: click.Context, parameter: click.Parameter, text: str | None) -> Fraction | None:
    """The callback of an option that takes frames per second."""
    found = None if text is None else RATE.fullmatch(text)
    is_zero = found is not None and not (Fraction(found[1]) and Fraction(found[2] or 1))
    if text is not None and (found is None or is_zero):
        raise click.BadParameter(
            f"wanted frames per second, such as 25 or 30000/1001, got {text!r}", context, parameter
        )
    return None if found is None else Fraction(found[1]) / Fraction(found[2] or 1)


def raw_format(context: click.Context, parameter: click.Parameter, text: str | None) -> PictureFormat | None:
    """The callback of an option that says what frames of raw RGB are."""
    if text is None:
        return None
    found = RAW.fullmatch(text)
    if found is None or not int(found[1]) or not int(found[2]):
        raise click.BadParameter(f"wanted WIDTHxHEIGHT@RATE, such as 640x360@25, got {text!r}", context, parameter)
    frames_per_second = rate(context, parameter, found[3])
    assert frames_per_second is not None
    return PictureFormat(int(found[1]), int(found[2]), frames_per_second, found[4] or "rgb24")


@dataclass(frozen=True)
class SourceOptions:
    """What the command was told of its source."""

    drop: Literal["latest", "block"]
    duration: float | None
    patience: float
    raw: PictureFormat | None
    rate: Fraction | None
    start: int | None
    end: int | None

    def __post_init__(self) -> None:
        if self.end is not None and self.end <= (self.start or 0):
            raise click.UsageError("--end is not after --start: nothing is between them")

    @property
    def cut(self) -> Cut:
        """What of the source is wanted."""
        return Cut(self.start or 0, self.end)

    def open(self, address: str, keeps_alpha: bool) -> Source:
        """Any source, as far as it is wanted.

        Arguments:
            keeps_alpha: of an animation or images that are transparent; else they are on white.

        Raises:
            InputError, UnreadableImage, UnreadableVideo
        """
        if address != PIPE and self.raw is not None:
            raise InputError(f"--raw is for standard input; {address} says itself what it holds")
        if address == PIPE:
            return self._piped()
        if is_live(address) and not Path(address).exists():
            drops = self.drop == "latest"
            live = LiveSource(address, drops, self.duration, self.patience, _say)
            if not live.has_end:
                return self._uncut(live)
            live.close()
        if self.duration is not None:
            raise InputError(f"--duration is for cameras and streams; {address} is a file")
        return open_video(address if is_live(address) else Path(address), self.cut, self.rate, keeps_alpha)

    def rate_of(self, source: Source) -> str | None:
        """That of numbered images, which do not say it."""
        is_images = source.path is not None and is_numbered(source.path) and not source.path.exists()
        return str(source.info.rate) if is_images else None

    def _piped(self) -> Source:
        if sys.stdin.isatty():
            raise InputError("wanted a video on standard input, which is a terminal: pipe one, or give its name")
        if self.rate is not None or self.duration is not None:
            raise InputError("--rate and --duration are not for standard input: give --raw WIDTHxHEIGHT@RATE, or --end")
        return cut_source(PipeSource(sys.stdin.fileno(), "standard input", self.raw), self.cut)

    def _uncut(self, live: LiveSource) -> Source:
        """Return a live source. It has no beginning, so times cannot be counted from there."""
        if (self.start, self.end, self.rate) == (None, None, None):
            return live
        live.close()
        raise InputError(f"--start, --end and --rate are not for {live.name}, which is live: give --duration")


def source_options(command: Command) -> Command:
    """What is read."""
    for option in (
        click.option(
            "--patience",
            type=NumberRange(0),
            default=60,
            show_default=True,
            help="Seconds that a lost live source is waited for; 0 ends at once.",
        ),
        click.option("--duration", type=NumberRange(0, min_open=True), help="Of a live source, in seconds."),
        click.option(
            "--drop",
            type=click.Choice(["latest", "block"]),
            default="latest",
            show_default=True,
            help="Live frames that come too fast: only the latest counts, or each is waited for.",
        ),
        click.option(
            "--raw",
            callback=raw_format,
            metavar="WxH@RATE[:FORMAT]",
            help="Standard input is raw RGB of that size and rate; FORMAT is rgb24 or rgb48le.  [default: it is y4m]",
        ),
        click.option(
            "--rate",
            callback=rate,
            metavar="RATE",
            help="Frames per second of numbered images, such as 30000/1001.  [default: 25]",
        ),
        click.option(
            "--end", callback=ticks, metavar="TIME", help="Frames of IN from that time on, and its sound, are left out."
        ),
        click.option(
            "--start",
            callback=ticks,
            metavar="TIME",
            help="Begin at that time of IN: seconds, or HH:MM:SS, such as 01:23.5.",
        ),
    ):
        command = option(command)
    return command


def _say(line: str) -> None:
    click.echo(f"caflow: {line}", err=True)
