"""Animated GIF, PNG and WebP, read with Pillow. Pillow composes the frames and keeps their times in all formats."""

import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from caflow_deploy.images.image_headers import GIF_START, PNG_START
from caflow_deploy.video.frame_source import (
    CLOCK,
    MAX_FRAME_PIXELS,
    TimedFrame,
    UnreadableVideo,
    VideoInfo,
    assumed_colours,
)
from caflow_deploy.video.transparency import framed, split_alpha
from caflow_runtime.image_arrays import Image

FORMATS = ("GIF", "PNG", "WEBP")
WEBP_KIND, WEBP_EXTENDED = b"WEBP", b"VP8X"
IS_ANIMATED = 2
"""Animation bit of the flags in byte 20 of a WebP file."""
HEAD_BYTES = 2**20
"""Bytes at the start of a PNG in which the chunk that marks an animation is searched."""
TOO_SHORT, USUAL_DURATION = Fraction(1, 100), Fraction(1, 10)
"""Seconds. If a frame's duration is at most the first value, browsers show the frame for the second value."""


def is_animation(path: Path) -> bool:
    """Return whether a file is a GIF, or an animated PNG or WebP."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    if head.startswith(PNG_START):
        return 0 < head.find(b"acTL") < (head.find(b"IDAT") % HEAD_BYTES)
    is_webp = head[8:16] == WEBP_KIND + WEBP_EXTENDED and len(head) > 20 and bool(head[20] & IS_ANIMATED)
    return is_webp or head.startswith(GIF_START)


class AnimationSource:
    """Source that yields each frame of an animation once. Without alpha, frames are on a white background."""

    along: str | None = None
    drops = False

    def __init__(self, path: Path, keeps_alpha: bool = False) -> None:
        """Open an animation.

        Arguments:
            keeps_alpha: yield RGBA frames if any frame of the animation is transparent.

        Raises:
            InputError: if Pillow is not installed.
            UnreadableVideo: if the source cannot be read.
        """
        self.path: Path | None = path
        self.name = str(path)
        self.ended_early: str | None = None
        self._path = path
        self._is_closed = False
        file = path.stat()
        known = _info(path, file.st_size, file.st_mtime_ns)
        self.info = replace(known, has_alpha=keeps_alpha and known.has_alpha)

    def frames(self) -> Iterator[TimedFrame]:
        """Yield all frames. A damaged file ends at the damage, and `ended_early` reports it."""
        start = Fraction(0)
        try:
            for image, said in _decoded(self._path):
                if self._is_closed:
                    return
                shown = framed(*split_alpha(image), self.info.has_alpha)
                yield TimedFrame(shown, round(start / CLOCK), time.monotonic())
                start += _duration(said)
        except UnreadableVideo as error:
            self.ended_early = str(error)

    def close(self) -> None:
        self._is_closed = True


@lru_cache
def _info(path: Path, _size: int, _changed: int) -> VideoInfo:
    """Return the properties of an animation; `has_alpha` says whether any frame is transparent.

    All frames are decoded, because only they tell that, and how long the last one is shown. This is done once for all
    segments that a process draws.

    Raises:
        UnreadableVideo: if no frame can be decoded.
    """
    height, width, plays, has_alpha, durations = 0, 0, 1, False, list[Fraction]()
    try:
        for image, said in _decoded(path):
            height, width = image.shape[:2]
            has_alpha = has_alpha or split_alpha(image)[1] is not None
            durations.append(_duration(said))
            plays = _plays(said)
    except UnreadableVideo:
        if not durations:
            raise
    if not durations:
        raise UnreadableVideo(f"{path}: expected an animation; found no frame")
    whole = sum(durations)
    start = whole - durations[-1]
    return VideoInfo(
        frames=len(durations),
        rate=(len(durations) / Fraction(whole)).limit_denominator(1001),
        height=height,
        width=width,
        bits=8,
        colour=assumed_colours(height),
        sample_aspect_ratio=None,
        metadata={},
        plays=plays,
        last_frame=(round(start / CLOCK), round(durations[-1] / CLOCK)),
        has_alpha=has_alpha,
    )


def _decoded(path: Path) -> Iterator[tuple[Image, dict[Any, Any]]]:
    """Yield each frame, (h, w, 4) RGBA, with the metadata that Pillow reports for it.

    Raises:
        UnreadableVideo: at the damage of a damaged file.
    """
    number = 0
    try:
        with PIL.Image.open(path, formats=FORMATS) as file:
            for number in count(int(bool(file.info.get("default_image")))):
                file.seek(number)
                if file.width * file.height > MAX_FRAME_PIXELS:  # a frame of a GIF may be larger than the animation
                    raise UnreadableVideo(f"a frame has {file.width}×{file.height} pixels, more than the limit")
                image = np.asarray(file.convert("RGBA"), np.uint8)
                yield image, file.info | {"format": file.format}
    except EOFError:  # the last frame was read
        pass
    except Exception as error:  # of any type: Pillow does not document what damaged files raise
        raise UnreadableVideo(f"{path} is damaged at frame {number + 1}: {error}") from None


def _duration(said: dict[str, Any]) -> Fraction:
    """Return for how many seconds browsers show a frame."""
    duration = Fraction(said.get("duration") or 0).limit_denominator(10**6) / 1000
    return duration if duration > TOO_SHORT else USUAL_DURATION


def _plays(said: dict[str, Any]) -> int:
    """Return how often an animation is played; 0 is forever. GIF stores repetitions, which are one less."""
    if said["format"] == "GIF":
        return 0 if said.get("loop") == 0 else 1 + said.get("loop", 0)
    return int(said.get("loop", 0))
