"""Animated GIF, PNG and WebP, by Pillow: it composes their frames and keeps their times, of all three formats."""

import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from caflow_runtime.errors import InputError
from caflow_runtime.image import Image
from caflow_runtime.image_formats import PNG_START
from caflow_runtime.video.source import CLOCK, TimedFrame, UnreadableVideo, VideoInfo, assumed_colours, on_white

GIF_START, WEBP_KIND, WEBP_EXTENDED = b"GIF8", b"WEBP", b"VP8X"
IS_ANIMATED = 2
"""A bit of WebP's flags, in byte 20."""
HEAD_BYTES = 2**20
"""In which a PNG says that it is animated, if it is."""
TOO_SHORT, USUAL_DURATION = Fraction(1, 100), Fraction(1, 10)
"""Seconds that browsers do not show a frame for, and what they show it for instead."""


def is_animation(path: Path) -> bool:
    """Whether a file is a GIF, or an animated PNG or WebP."""
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
    """The frames of an animation, once each. What is transparent becomes white."""

    along: str | None = None
    drops = False

    def __init__(self, path: Path) -> None:
        """
        Raises:
            InputError: if Pillow is not installed.
            UnreadableVideo
        """
        self.path: Path | None = path
        self.name = str(path)
        self.ended_early: str | None = None
        self._path = path
        self._is_closed = False
        self._durations: list[Fraction] = []
        """Seconds, of the frames that can be read."""
        self.info = self._info()

    def frames(self) -> Iterator[TimedFrame]:
        """All frames. A file that is damaged ends where it is, and `ended_early` says so."""
        start = Fraction(0)
        for (image, _), duration in zip(self._decoded(), self._durations, strict=False):
            if self._is_closed:
                return
            yield TimedFrame(image, round(start / CLOCK), time.monotonic())
            start += duration

    def close(self) -> None:
        self._is_closed = True

    def _info(self) -> VideoInfo:
        """Decodes all of it: only so it is known how long the last frame is shown."""
        height, width, plays = 0, 0, 1
        for image, said in self._decoded():
            height, width = image.shape[:2]
            duration = Fraction(said.get("duration") or 0).limit_denominator(10**6) / 1000
            self._durations.append(duration if duration > TOO_SHORT else USUAL_DURATION)
            plays = _plays(said)
        if not self._durations:
            raise UnreadableVideo(self.ended_early or f"{self.name}: wanted an animation, there is no frame in it")
        whole = sum(self._durations)
        start = whole - self._durations[-1]
        return VideoInfo(
            frames=len(self._durations),
            rate=(len(self._durations) / Fraction(whole)).limit_denominator(1001),
            height=height,
            width=width,
            bits=8,
            colour=assumed_colours(height),
            sample_aspect_ratio=None,
            metadata={},
            plays=plays,
            last_frame=(round(start / CLOCK), round(self._durations[-1] / CLOCK)),
        )

    def _decoded(self) -> Iterator[tuple[Image, dict[str, Any]]]:
        """Each frame, and what the file says of it."""
        pillow, number = import_pillow(), 0
        try:
            with pillow.open(self._path) as file:
                for number in count(int(bool(file.info.get("default_image")))):
                    file.seek(number)
                    rgba = np.asarray(file.convert("RGBA"))
                    alpha = None if (rgba[..., 3] == 255).all() else rgba[..., 3]
                    yield np.ascontiguousarray(on_white(rgba[..., :3], alpha)), file.info | {"format": file.format}
        except EOFError:  # there are no more
            pass
        except Exception as error:  # of whatever kind: what Pillow raises of damaged files is not documented
            self.ended_early = f"{self.name}: damaged at frame {number + 1}: {error}"


def _plays(said: dict[str, Any]) -> int:
    """How often an animation is shown, 0 for ever: GIF counts repetitions."""
    if said["format"] == "GIF":
        return 0 if said.get("loop") == 0 else 1 + said.get("loop", 0)
    return int(said.get("loop", 0))


def import_pillow() -> ModuleType:
    """Pillow's `Image`.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import PIL.Image
    except ModuleNotFoundError:
        raise InputError("animations need Pillow: pip install pillow") from None
    return PIL.Image
