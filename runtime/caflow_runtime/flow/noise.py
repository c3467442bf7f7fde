"""Base noise as a function of its place: any window, of any sample and frame, drawn alone is what it is in the whole.

Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011) turns a place into four integers, and
Box and Muller's transform turns those into four normals. Specified in `docs/reference/computation.md`, so that every
runtime draws the same.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.checks import LARGEST_WORD, shown
from caflow_runtime.errors import InputError

Words = NDArray[np.uint32]

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
NORMALS_PER_CALL = 4

COUNTERS_IN_CACHE = 2**14


@dataclass(frozen=True)
class Place:
    """A window of a level, in its positions, for some samples of an image."""

    top: int
    left: int
    height: int
    width: int
    samples: tuple[int, ...]


@dataclass(frozen=True)
class LevelNoise:
    """What z of one level j is to be, for the rows of all places, which are of one size."""

    channels: Sequence[int]
    """Of each z[i, j], i = j, j + 1, …"""
    level: int
    """j."""
    places: Sequence[Place]
    temperatures: Sequence[float]
    """Of each z[i, j]."""
    seed: int
    """Like `frame`, 0 … 2³²−1."""
    frame: int


DrawNoise = Callable[[Sequence[int], int, Place, int, int], NDArray[np.float32]]
"""`draw_noise`, or what else makes noise of a place."""


def draw_noise(channels: Sequence[int], level: int, place: Place, seed: int, frame: int = 0) -> NDArray[np.float32]:
    """Standard normal z[i, j] of one level j, i = j, j + 1, …, side by side: (samples, channels, height, width).

    Arguments:
        channels: of z[i, j] for each i.
        level: j.
        place: the window of the whole image's noise, and the samples, one per row.
        seed, frame: 0 … 2³²−1.
    """
    height, width = place.height, place.width
    groups = [-(-count // NORMALS_PER_CALL) for count in channels]
    blocks = [np.arange(count) + ((level + k) << 16 | level << 24) for k, count in enumerate(groups)]
    # One counter per position, for each pair of a sample and a group of four channels: (pairs, 1, 1) and (h, 1), (w,).
    c3, c2 = np.meshgrid(np.array(place.samples), np.concatenate(blocks), indexing="ij")
    pairs = [word.reshape(-1, 1, 1).astype(np.uint32) for word in (c2, c3)]
    c1 = np.arange(place.top, place.top + height, dtype=np.uint32)[:, None]
    c0 = np.arange(place.left, place.left + width, dtype=np.uint32)
    normals = np.empty((c2.size, NORMALS_PER_CALL, height, width), np.float32)
    step = max(1, COUNTERS_IN_CACHE // (height * width))
    for start in range(0, c2.size, step):
        part = slice(start, start + step)
        words = philox((c0, c1, pairs[0][part], pairs[1][part]), key=(int(seed), int(frame)))
        normals[part, 0], normals[part, 1] = _box_muller(words[0], words[1])
        normals[part, 2], normals[part, 3] = _box_muller(words[2], words[3])
    flat = normals.reshape(len(place.samples), -1, height, width)
    starts = NORMALS_PER_CALL * np.cumsum([0, *groups[:-1]])
    used = np.concatenate([start + np.arange(count) for start, count in zip(starts, channels, strict=True)])
    return flat if len(used) == flat.shape[1] else flat[:, used]


class DriftingNoise:
    """Noise of an AR(1) process over a scene's frames, each N(0, 1) by itself; a function of the frame's number."""

    def __init__(self, persistence: float) -> None:
        self.persistence = persistence
        self._first = 0
        self._last: dict[tuple[int, Place], tuple[int, NDArray[np.float32] | None]] = {}

    def restart(self, first: int) -> None:
        """A scene begins with that frame."""
        self._first = first
        self._last.clear()

    def __call__(self, channels: Sequence[int], level: int, place: Place, seed: int, frame: int) -> NDArray[np.float32]:
        """As `draw_noise`."""
        singles = [replace(place, samples=(k,)) for k in place.samples]
        return np.concatenate([self._next(channels, level, single, seed, frame) for single in singles])

    def _next(self, channels: Sequence[int], level: int, place: Place, seed: int, frame: int) -> NDArray[np.float32]:
        """Of a single sample."""
        done, drawn = self._last.get((level, place), (self._first - 1, None))
        for number in range(done + 1, frame + 1):  # more than one where it was not asked for since
            new = draw_noise(channels, level, place, seed, number)
            fresh = np.float32(math.sqrt(1 - self.persistence**2)) * new
            drawn = new if drawn is None else self.persistence * drawn + fresh
        assert drawn is not None  # a stream never goes back
        self._last[level, place] = frame, drawn
        return drawn


def draw_rows(z: LevelNoise, draw: DrawNoise = draw_noise) -> NDArray[np.float32]:
    """z of one level, side by side: (rows, channels, height, width), the rows of each place after those of the last."""
    drawn = [draw(z.channels, z.level, place, z.seed, z.frame) for place in z.places]
    taus = np.repeat(np.asarray(z.temperatures, np.float32), z.channels)
    return np.concatenate(drawn) * taus[:, None, None]


def as_noise(noise: Sequence[Sequence[NDArray[Any]]], count: int) -> list[list[NDArray[np.float32]]]:
    """The noise of `count` images as float32: an array for each level of each.

    Raises:
        InputError
    """
    wanted = f"noise: wanted for {count} images a list of float arrays each, as encode gives it"
    if not isinstance(noise, list | tuple) or not all(isinstance(of_image, list | tuple) for of_image in noise):
        raise InputError(f"{wanted}, got {shown(noise)}")
    if len(noise) != count:
        raise InputError(f"{wanted}, got it for {len(noise)}")
    try:
        return [[np.asarray(z, np.float32) for z in of_image] for of_image in noise]
    except (TypeError, ValueError) as error:
        raise InputError(f"{wanted}, got what is no array: {error}") from None


def philox(counter: Sequence[Words], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """Philox4x32-10 of counters in four words, which are broadcast: what they share is computed once at first."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(ROUNDS):
        high0, low0 = _multiply(c0, MULTIPLIERS[0])
        high1, low1 = _multiply(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint32(k0), low1, high0 ^ c3 ^ np.uint32(k1), low0
        k0, k1 = (k0 + WEYL[0]) & LARGEST_WORD, (k1 + WEYL[1]) & LARGEST_WORD
    return c0, c1, c2, c3


def _multiply(word: Words, multiplier: int) -> tuple[Words, Words]:
    """High and low half of the 64-bit product."""
    product = word.astype(np.uint64) * np.uint64(multiplier)
    return (product >> np.uint64(32)).astype(np.uint32), product.astype(np.uint32)


def _box_muller(a: Words, b: Words) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two words to two normals, in float64 and then rounded: float32 logarithms differ between libraries."""
    radius = np.sqrt(-2 * np.log((a + 0.5) * 2.0**-32))
    angle = b * (2 * np.pi * 2.0**-32)
    return (radius * np.cos(angle)).astype(np.float32), (radius * np.sin(angle)).astype(np.float32)
