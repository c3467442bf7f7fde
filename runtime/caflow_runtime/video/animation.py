"""Animated GIF, PNG and WebP, by Pillow: it composes their frames and keeps their times, of all three formats."""

import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.errors import InputError
from caflow_runtime.image import Image
from caflow_runtime.image_formats import PNG_START
from caflow_runtime.video.source import CLOCK, TimedFrame, UnreadableVideo, VideoInfo, assumed_colours
from caflow_runtime.video.transparency import OPAQUE, framed

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
    """The frames of an animation, once each. What is transparent becomes white unless alpha is kept."""

    along: str | None = None
    drops = False

    def __init__(self, path: Path, keeps_alpha: bool = False) -> None:
        """
        Arguments:
            keeps_alpha: frames have alpha if any of them is transparent.

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
        self.info = self._info(keeps_alpha)

    def frames(self) -> Iterator[TimedFrame]:
        """All frames. A file that is damaged ends where it is, and `ended_early` says so."""
        start = Fraction(0)
        for (image, _), duration in zip(self._decoded(), self._durations, strict=False):
            if self._is_closed:
                return
            shown = framed(*_split(image), self.info.has_alpha)
            yield TimedFrame(shown, round(start / CLOCK), time.monotonic())
            start += duration

    def close(self) -> None:
        self._is_closed = True

    def _info(self, keeps_alpha: bool) -> VideoInfo:
        """Decodes all of it: only so it is known how long the last frame is shown, and whether any is transparent."""
        height, width, plays, has_alpha = 0, 0, 1, False
        for image, said in self._decoded():
            height, width = image.shape[:2]
            has_alpha = has_alpha or (keeps_alpha and _split(image)[1] is not None)
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
            has_alpha=has_alpha,
        )

    def _decoded(self) -> Iterator[tuple[Image, dict[str, Any]]]:
        """Each frame, (h, w, 4) RGBA, and what the file says of it."""
        pillow, number = import_pillow(), 0
        try:
            with pillow.open(self._path) as file:
                for number in count(int(bool(file.info.get("default_image")))):
                    file.seek(number)
                    yield np.asarray(file.convert("RGBA")), file.info | {"format": file.format}
        except EOFError:  # there are no more
            pass
        except Exception as error:  # of whatever kind: what Pillow raises of damaged files is not documented
            self.ended_early = f"{self.name}: damaged at frame {number + 1}: {error}"


def _split(rgba: Image) -> tuple[Image, NDArray[np.uint8] | None]:
    """Colours and alpha, which is None where all is opaque."""
    alpha = rgba[..., 3]
    return np.ascontiguousarray(rgba[..., :3]), None if (alpha == OPAQUE).all() else alpha


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
