"""Numbered images in a folder, such as `frames/%05d.png`, read and written like the frames of a video."""

import hashlib
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_deploy.images.image_files import read_image, write_image
from caflow_deploy.video.frame_source import CLOCK, TimedFrame, VideoInfo, assumed_colours
from caflow_deploy.video.transparency import framed, without_alpha
from caflow_runtime.batching.pixels import DEEP
from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.errors import InputError

NUMBER = re.compile(r"%(?:0(\d{1,2}))?d")
USUAL_RATE = Fraction(25)


def is_numbered(path: Path) -> bool:
    """Return whether the name in a path is a pattern for images, as in FFmpeg: with one `%d`, or one such as `%05d`."""
    return len(NUMBER.findall(path.name)) == 1


def numbered(pattern: Path, number: int) -> Path:
    """Return the path of the image with that number."""
    return pattern.with_name(NUMBER.sub(lambda found: f"{number:0{found[1] or 1}d}", pattern.name))


def numbers_of(pattern: Path) -> list[int]:
    """Return the numbers of the images that exist, in rising order."""
    before, _, after = NUMBER.sub("\0", pattern.name).partition("\0")
    name = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")
    found = []
    with suppress(FileNotFoundError, NotADirectoryError):
        for path in pattern.parent.iterdir():
            matched = name.fullmatch(path.name)
            if matched and path.name == numbered(pattern, int(matched[1])).name:
                found.append(int(matched[1]))
    return sorted(found)


def sha256_of_numbered(pattern: Path) -> str:
    """Return one hash of all images and their numbers."""
    digest = hashlib.sha256()
    for number in numbers_of(pattern):
        digest.update(f"{number} {sha256_of(numbered(pattern, number))}\n".encode())
    return digest.hexdigest()


class NumberedSource:
    """Source that reads images from the lowest number up to the first missing number."""

    along: str | None = None
    drops = False

    def __init__(self, pattern: Path, rate: Fraction = USUAL_RATE, keeps_alpha: bool = False) -> None:
        """Find the images of a pattern.

        Arguments:
            rate: frames per second.
            keeps_alpha: yield RGBA frames if the first image has alpha.

        Raises:
            InputError: if there is no image.
            UnreadableImage: if the first image cannot be read.
        """
        self.path: Path | None = pattern
        self.name = str(pattern)
        self.pattern = pattern
        self.ended_early: str | None = None
        self._is_closed = False
        self._numbers = numbers_of(pattern)
        if not self._numbers:
            raise InputError(f"{pattern}: there are no such images; the first would be {numbered(pattern, 1)}")
        first = read_image(numbered(pattern, self._numbers[0]))
        height, width = first.rgb.shape[:2]
        self.info = VideoInfo(
            frames=len(self._numbers),
            rate=rate,
            height=height,
            width=width,
            bits=first.bits,
            colour=assumed_colours(height),
            sample_aspect_ratio=None,
            metadata={},
            has_alpha=keeps_alpha and first.alpha is not None,
        )

    def frames(self) -> Iterator[TimedFrame]:
        """Yield all frames. If a number is missing and later ones exist, `ended_early` reports it.

        Raises:
            UnreadableImage: if an image cannot be read.
        """
        for k, number in enumerate(self._numbers):
            path = numbered(self.pattern, self._numbers[0] + k)
            if number != self._numbers[0] + k:
                self.ended_early = f"{path} is missing, but later images exist: only the images before it are used"
            if self._is_closed or self.ended_early:
                return
            image = read_image(path)
            shown = framed(image.rgb, image.alpha, self.info.has_alpha)
            yield TimedFrame(shown, round(k / self.info.rate / CLOCK), time.monotonic())

    def close(self) -> None:
        self._is_closed = True


def write_numbered(images: Iterable[NDArray[Any]], pattern: Path) -> None:
    """Write images from number 1 on, and remove all other images of the pattern.

    Each image is complete or not written at all.

    Arguments:
        images: (H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16.

    Raises:
        OSError: if a file cannot be read or written.
    """
    last = 0
    for last, image in enumerate(images, 1):
        alpha = image[..., 3] if image.shape[2] == 4 else None
        if alpha is not None and alpha.dtype == np.uint16:
            alpha = (alpha // DEEP).astype(np.uint8)
        write_image(numbered(pattern, last), without_alpha(image), alpha)
    for number in numbers_of(pattern):
        if not 1 <= number <= last:
            numbered(pattern, number).unlink()
