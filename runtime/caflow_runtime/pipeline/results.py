"""What a pipeline gives back. B is the number of images, N of samples of each, n of levels, H × W a target's size.

A `Stack` is one array with B as its first axis where all images are of one size, and a list of B arrays where they are
not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.flow.shares import Shares, share_map, shares_per_level
from caflow_runtime.judge.typicality import Typicality

Outcome = Literal["unjudged", "accepted", "best", "bicubic"]
"""What is given for an image: a sample that nothing was asked of, or that cannot be judged; an accepted sample; the
best of those that were rejected; or the input, enlarged."""

REJECTED = -1
"""The number of the sample where there is none: the input, enlarged, is in its place."""

Stack = NDArray[Any] | list[NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """log p(target | condition), in parts."""

    per_level: NDArray[np.float64]
    """(B, n) nats, the coarsest level first."""
    dims: NDArray[np.int64]
    """(B,) values in one image: 3 H W."""
    density_at: Literal["sample", "image"]
    """Where the density was taken: at the continuous point that was drawn, or at the middle of the cells of an image's
    integers. The two differ by rounding."""
    sides: list[tuple[int, int]] = field(repr=False)
    """H and W of each image."""
    shares: Sequence[Any] = field(repr=False)
    """`Shares` of each image: what `log_likelihood_map` is made from."""
    sample_typicality: Typicality | None = None
    """How usual these samples, as they were drawn, are among samples of their temperature; None of what was not drawn,
    and where the bundle is not calibrated for that temperature."""
    image_typicality: Typicality | None = None
    """How usual these images, integers as they are written, are among true images; None of samples that were not scored
    as images, and where the bundle is not calibrated."""
    statistics: NDArray[np.float64] | None = field(default=None, repr=False)
    """(B, K − n) `latents.statistics_of` images; None of samples, whose latents are the noise that was drawn."""

    @property
    def log_likelihood(self) -> NDArray[np.float64]:
        """(B,) nats."""
        total: NDArray[np.float64] = self.per_level.sum(-1)
        return total

    @property
    def bits_per_dim(self) -> NDArray[np.float64]:
        """(B,): −log-likelihood / (dims · ln 2), pixel values as 0…256."""
        total: NDArray[np.float64] = self.bits_per_dim_per_level.sum(-1)
        return total

    @property
    def bits_per_dim_per_level(self) -> NDArray[np.float64]:
        """(B, n): each level's part of `bits_per_dim`."""
        return bits_per_dim(self.per_level, self.dims.reshape(-1, *[1] * (self.per_level.ndim - 1)))

    @property
    def measures(self) -> NDArray[np.float64]:
        """(B, K) what typicality is made from: `bits_per_dim_per_level` and, of images, `statistics`."""
        bits = self.bits_per_dim_per_level
        return bits if self.statistics is None else np.concatenate([bits, self.statistics], -1)

    @property
    def log_likelihood_map(self) -> Stack:
        """A `Stack` of (H, W) float32, nats per pixel; sums to the log-likelihood."""
        return stack([share_map(shares, *side) for shares, side in zip(self.shares, self.sides, strict=True)])

    @property
    def log_likelihood_map_per_level(self) -> Stack:
        """A `Stack` of (n, H, W) float32, nats per pixel of each level."""
        return stack([self._level_maps(shares, side) for shares, side in zip(self.shares, self.sides, strict=True)])

    def _level_maps(self, shares: Shares, sides: tuple[int, int]) -> NDArray[np.float32]:
        return np.stack([share_map(level, *sides) for level in shares_per_level(shares, self.per_level.shape[-1])])


@dataclass(frozen=True, kw_only=True)
class Score(Likelihood):
    """Of given images."""


@dataclass(frozen=True, kw_only=True)
class Best(Likelihood):
    """The best of N samples of each image."""

    images: Stack
    """A `Stack` of (H, W, 3) uint8 RGB."""
    deep: Stack | None = field(default=None, repr=False)
    """The same in 16 bits, a `Stack` of (H, W, 3) uint16 RGB, where that was asked for: rounded to 8 bits it is
    `images`, to which the likelihood belongs."""
    sample: NDArray[np.int64]
    """(B,) number of the chosen sample, from 0: the same seed draws it again; or `REJECTED`."""
    consistency: NDArray[np.float64] | None = None
    """(B,) dB, where it was asked for: PSNR of the image, degraded again, against its condition."""
    outcome: list[Outcome] = field(default_factory=list)
    """Of each image: an accepted sample, or what is there instead because all were rejected."""
    rejected: NDArray[np.int64] | None = None
    """(B,) samples that were rejected, or not finite."""
    bits_per_dim_drawn: list[NDArray[np.float64]] = field(default_factory=list, repr=False)
    """Of all finite samples of each image, in no order."""


@dataclass(frozen=True, kw_only=True)
class Samples(Likelihood):
    """All samples of each image, the best first; every array has N as its second axis."""

    images: Stack
    """A `Stack` of (N, H, W, 3) uint8 RGB."""
    deep: Stack | None = field(default=None, repr=False)
    """A `Stack` of (N, H, W, 3) uint16 RGB, as in `Best`."""
    sample: NDArray[np.int64]
    """(B, N) numbers of the samples, from 0."""
    consistency: NDArray[np.float64] | None = None
    """(B, N) dB, as in `Best`."""

    @property
    def std(self) -> Stack:
        """The uncertainty map: a `Stack` of (H, W, 3) float32, standard deviation over the samples in grey levels."""
        return stack([_std(images) for images in self.images])

    @property
    def log_likelihood_map(self) -> Stack:
        """A `Stack` of (N, H, W) float32, nats per pixel."""
        return stack(
            [
                np.stack([share_map(one, *side) for one in shares])
                for shares, side in zip(self.shares, self.sides, strict=True)
            ]
        )

    @property
    def log_likelihood_map_per_level(self) -> Stack:
        """A `Stack` of (N, n, H, W) float32, nats per pixel of each level."""
        return stack(
            [
                np.stack([self._level_maps(one, side) for one in shares])
                for shares, side in zip(self.shares, self.sides, strict=True)
            ]
        )


@dataclass(frozen=True, kw_only=True)
class Encoded(Score):
    """Given images as the noise that makes them."""

    noise: list[list[NDArray[np.float32]]] = field(repr=False)
    """Of each image, z of each level, coarsest first: (channels, h, w), the z[i, j], i = j … n−1, side by side."""


def _std(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Of (N, H, W, 3) over the first axis, line by line: on the way there are floats of all images."""
    found = np.empty(images.shape[1:], np.float32)
    for y in range(len(found)):
        found[y] = images[:, y].std(0, dtype=np.float32)
    return found


def bits_per_dim(log_likelihood: Any, dims: Any) -> NDArray[np.float64]:
    """−log-likelihood / (dims · ln 2)."""
    bits: NDArray[np.float64] = -np.asarray(log_likelihood) / (dims * math.log(2))
    return bits


def stack(arrays: Sequence[NDArray[Any]]) -> Stack:
    """One array where all are of one shape, else a list."""
    return np.stack(arrays) if len({array.shape for array in arrays}) == 1 else list(arrays)
