"""Source of `caflow video`: a file, numbered images, a pipe, a camera or a stream, and the part of it to read."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import click

from caflow_cli.field_options import field_option
from caflow_cli.option_values import NumberRange, options
from caflow_deploy.commands.pipes import PIPE, standard_input
from caflow_deploy.video.any_source import cut_source, open_video
from caflow_deploy.video.frame_source import Source
from caflow_deploy.video.live import LiveSource, is_live
from caflow_deploy.video.pipe import PipeSource
from caflow_deploy.video.video_options import VideoOptions
from caflow_runtime.errors import InputError

PATIENCE_S = 60
"""Default of --patience, in seconds."""
TIME = re.compile(r"(?:(?:(\d{1,4}):)?(\d{1,4}):)?(\d{1,9}(?:\.\d{1,9})?)")


def _seconds(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """Parse a time of a video, such as 83.5 or 01:23.5, into seconds."""
    if text is None:
        return None
    found = TIME.fullmatch(text)
    if found is None:
        raise click.BadParameter(
            f"must be seconds or HH:MM:SS, such as 83.5 or 01:23.5; got {text!r}", context, parameter
        )
    hours, minutes, seconds = (Fraction(part or 0) for part in found.groups())
    return float(3600 * hours + 60 * minutes + seconds)


@dataclass(frozen=True)
class LiveOptions:
    """Values of the options about live sources: cameras and streams."""

    drop: Literal["latest", "block"] | None
    duration: float | None
    patience: float | None

    def open(self, address: str, video: VideoOptions, keeps_alpha: bool, warn: Callable[[str], None]) -> Source:
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
            return self._piped(video)
        if is_live(address) and not Path(address).exists():
            drops, patience = self.drop != "block", PATIENCE_S if self.patience is None else self.patience
            live = LiveSource(address, drops, self.duration, patience, warn)
            if not live.has_end:
                return _uncut(live, video)
            live.close()
        if self.duration is not None:
            raise InputError(f"--duration requires a camera or a stream, but {address} is a file; give --end")
        self._refuse(address)
        given = address if is_live(address) else Path(address)
        return open_video(given, video.cut, video.frames_per_second, keeps_alpha)

    def _piped(self, video: VideoOptions) -> Source:
        given = standard_input("a video")
        if video.rate is not None or self.duration is not None:
            raise InputError("--rate and --duration do not work with standard input; give --end")
        self._refuse("standard input")
        return cut_source(PipeSource(given.fileno(), "standard input"), video.cut)

    def _refuse(self, name: str) -> None:
        for option, value in (("--drop", self.drop), ("--patience", self.patience)):
            if value is not None:
                raise InputError(f"{option} requires a camera or a stream as IN; got {name}; remove {option}")


def _uncut(live: LiveSource, video: VideoOptions) -> Source:
    """Return a live source. It has no beginning, so --start and --end are rejected."""
    if (video.start, video.end, video.rate) == (None, None, None):
        return live
    live.close()
    raise InputError(f"--start, --end and --rate do not work with the live source {live.name}; give --duration")


part_options = options(
    *(field_option(VideoOptions, name, callback=_seconds, type=str, metavar="TIME") for name in ("start", "end")),
    field_option(VideoOptions, "rate", metavar="RATE"),
)
"""Options about the part of the source to read."""
live_options = options(
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
"""Options about live sources."""
