"""Base noise as a function of its place.

A window of the noise, of any sample and frame, has the same values as that part of the whole noise. Philox4x32-10
(Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", 2011) maps a place to four integers, and the Box–Muller
transform maps these to four normal numbers. The method is specified in `docs/reference/computation.md`, so that every
runtime draws the same noise.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.checks import LARGEST_WORD, shown
from caflow_runtime.errors import InputError
from caflow_runtime.flow.level_chain import Array

Words = NDArray[np.uint32]

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
NORMALS_PER_CALL = 4

COUNTERS_IN_CACHE = 2**14


@dataclass(frozen=True)
class NoiseWindow:
    """A window of one level, in positions of that level, and the samples to draw noise for."""

    top: int
    left: int
    height: int
    width: int
    samples: tuple[int, ...]


@dataclass(frozen=True)
class LevelNoise:
    """Noise z of one level j to draw, for the items of several places of equal size."""

    channels: tuple[int, ...]
    """Number of channels of each z[i, j], i = j, j + 1, …"""
    level: int
    """The level j."""
    places: tuple[NoiseWindow, ...]
    temperatures: tuple[float, ...]
    """Temperature of each z[i, j]."""
    seed: int
    """Seed, like `frame` in 0 … 2³²−1."""
    frame: int


DrawWindowNoise = Callable[[Sequence[int], int, NoiseWindow, int, int], NDArray[np.float32]]
"""Type of `draw_window_noise` and of functions that replace it."""
DrawNoise = Callable[[LevelNoise], Array]
"""Function that draws the noise of a level and returns it as a device array."""


def draw_window_noise(
    channels: Sequence[int], level: int, place: NoiseWindow, seed: int, frame: int = 0
) -> NDArray[np.float32]:
    """Return standard normal noise z[i, j] of one level j, for i = j, j + 1, ….

    The result is (samples, channels, height, width) float32. Blocks are concatenated along the channels.

    Arguments:
        channels: number of channels of z[i, j] for each i.
        level: j.
        place: window of the whole image's noise, and the samples, one per item.
        seed, frame: 0 … 2³²−1.
    """
    height, width = place.height, place.width
    groups = [-(-count // NORMALS_PER_CALL) for count in channels]
    blocks = [np.arange(count) + ((level + k) << 16 | level << 24) for k, count in enumerate(groups)]
    # One counter per position and pair of a sample and a group of four channels: (pairs, 1, 1), (h, 1) and (w,).
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
    """Noise that changes slowly over the frames of a scene: an AR(1) process whose values are each N(0, 1).

    The noise of a frame depends only on the frame's number and the first frame of its scene.
    """

    def __init__(self, persistence: float) -> None:
        self.persistence = persistence
        self._first = 0
        self._last: dict[tuple[int, NoiseWindow], tuple[int, NDArray[np.float32] | None]] = {}

    def restart(self, first: int) -> None:
        """Begin a new scene at frame `first`."""
        self._first = first
        self._last.clear()

    def __call__(
        self, channels: Sequence[int], level: int, place: NoiseWindow, seed: int, frame: int
    ) -> NDArray[np.float32]:
        """Return the noise of a frame, as `draw_window_noise` does."""
        singles = [replace(place, samples=(k,)) for k in place.samples]
        return np.concatenate([self._next(channels, level, single, seed, frame) for single in singles])

    def _next(
        self, channels: Sequence[int], level: int, place: NoiseWindow, seed: int, frame: int
    ) -> NDArray[np.float32]:
        """Return the noise of a single sample."""
        done, drawn = self._last.get((level, place), (self._first - 1, None))
        for number in range(done + 1, frame + 1):  # also frames for which this place was not drawn
            new = draw_window_noise(channels, level, place, seed, number)
            fresh = np.float32(math.sqrt(1 - self.persistence**2)) * new
            drawn = new if drawn is None else self.persistence * drawn + fresh
        assert drawn is not None  # frame numbers of a stream never decrease
        self._last[level, place] = frame, drawn
        return drawn


class SceneNoise:
    """Noise that all frames of a scene share. It is drawn for the first of them, and kept on the device for the others.

    It must only be used for the sample that the scene keeps, because noise of other samples would be kept in vain.
    """

    def __init__(self, draw: DrawNoise) -> None:
        """Keep what `draw` returns."""
        self._draw = draw
        self._shared: tuple[int, int, int, int] | None = None
        self._kept: dict[LevelNoise, Array] = {}

    def begin(self, scene: int, sample: int, frames: int, pixel_budget: int) -> None:
        """Begin to draw frames together. If any argument has changed, they run differently: forget what was kept.

        Arguments:
            scene: number of the scene.
            sample: number of the sample that the scene keeps.
            frames: number of frames that are drawn together.
            pixel_budget: largest number of target pixels in a run.
        """
        shared = (scene, sample, frames, pixel_budget)
        if shared != self._shared:
            self._shared = shared
            self._kept.clear()

    def __call__(self, z: LevelNoise) -> Array:
        """Return the noise of one level."""
        if z not in self._kept:
            self._kept[z] = self._draw(z)
        return self._kept[z]


def draw_items(z: LevelNoise, draw: DrawWindowNoise = draw_window_noise) -> NDArray[np.float32]:
    """Return z of one level for the items of all places, (items, channels, height, width) float32.

    The items of each place follow those of the previous place.
    """
    taus = np.repeat(np.asarray(z.temperatures, np.float32), z.channels)[:, None, None]
    drawn = [draw(z.channels, z.level, place, z.seed, z.frame) for place in z.places]
    counts = [len(one) for one in drawn]
    items = np.empty((sum(counts), *drawn[0].shape[1:]), np.float32)
    for one, of_place in zip(drawn, np.split(items, np.cumsum(counts[:-1])), strict=True):
        np.multiply(one, taus, out=of_place)
    return items


def as_noise(noise: Sequence[Sequence[NDArray[Any]]], count: int) -> list[list[NDArray[np.float32]]]:
    """Return the noise of `count` images as float32: a list of arrays, one for each level, for each image.

    Raises:
        InputError: if the argument is not valid.
    """
    wanted = f"noise: expected {count} lists of float arrays, one list for each image, as encode returns them"
    if not isinstance(noise, list | tuple) or not all(isinstance(of_image, list | tuple) for of_image in noise):
        raise InputError(f"{wanted}; got {shown(noise)}")
    if len(noise) != count:
        raise InputError(f"{wanted}; got {len(noise)} lists")
    try:
        return [[np.asarray(z, np.float32) for z in of_image] for of_image in noise]
    except (TypeError, ValueError) as error:
        raise InputError(f"{wanted}; got an item that is not a float array: {error}") from None


def philox(counter: Sequence[Words], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """Return Philox4x32-10 of counters of four words.

    The words are broadcast against each other. Axes along which words are constant are computed only once in the first
    rounds.
    """
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(ROUNDS):
        high0, low0 = _multiply(c0, MULTIPLIERS[0])
        high1, low1 = _multiply(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint32(k0), low1, high0 ^ c3 ^ np.uint32(k1), low0
        k0, k1 = (k0 + WEYL[0]) & LARGEST_WORD, (k1 + WEYL[1]) & LARGEST_WORD
    return c0, c1, c2, c3


def _multiply(word: Words, multiplier: int) -> tuple[Words, Words]:
    """Return the high and low halves of the 64-bit product."""
    product = word.astype(np.uint64) * np.uint64(multiplier)
    return (product >> np.uint64(32)).astype(np.uint32), product.astype(np.uint32)


def _box_muller(a: Words, b: Words) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return two normal numbers from two words.

    They are computed in float64 and then rounded, because float32 logarithms differ between libraries.
    """
    radius = np.sqrt(-2 * np.log((a + 0.5) * 2.0**-32))
    angle = b * (2 * np.pi * 2.0**-32)
    return (radius * np.cos(angle)).astype(np.float32), (radius * np.sin(angle)).astype(np.float32)
