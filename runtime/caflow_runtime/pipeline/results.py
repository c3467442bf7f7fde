"""Results of a pipeline.

Shapes use B for the number of images, N for the samples of each image, n for the levels, and H × W for the size of a
target. If all images have the same size, a `Stack` is one array with B as its first axis. Otherwise it is a list of B
arrays.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.checks import check_share
from caflow_runtime.flow.log_likelihood_maps import LogLikelihoodMaps, map_per_pixel, maps_per_level
from caflow_runtime.ood.typicality import Typicality

Outcome = Literal["unjudged", "accepted", "rejected", "bicubic"]
"""Kind of a result. "unjudged": a sample that was not judged, or cannot be judged. "accepted": an accepted sample.
"rejected": the best of the rejected samples, because all were rejected. "bicubic": the enlarged input, because all
samples were rejected."""

REJECTED = -1
"""Number of the sample if the result is no sample, but the enlarged input."""

Stack = NDArray[Any] | list[NDArray[Any]]
"""One array with B as its first axis, or a list of B arrays if images have different sizes."""


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """log p(target | condition) and its parts."""

    per_level: NDArray[np.float64]
    """(B, n) log-likelihood of each level in nats, the coarsest level first."""
    dims: NDArray[np.int64]
    """(B,) number of values that the model draws in one image: 3 H W, or fewer if some are known."""
    density_at: Literal["sample", "image"]
    """Point at which the density was computed: the continuous point of a drawn sample ("sample"), or the midpoints of
    the intervals [w, w + 1) of an image's integers w ("image"). The two densities differ by rounding."""
    sides: list[tuple[int, int]] = field(repr=False)
    """Height and width of each image."""
    maps: Sequence[Any] = field(repr=False)
    """Log-likelihood maps of each image, by level and graph, from which `log_likelihood_map` is computed."""
    sample_typicality: Typicality | None = None
    """Typicality of the drawn samples among samples of the same temperature. None if nothing was drawn, or if the
    bundle is not calibrated for that temperature."""
    image_typicality: Typicality | None = None
    """Typicality of the images, as they are written, among true images. None if they were not scored as images, or if
    the bundle is not calibrated."""
    statistics: NDArray[np.float64] | None = field(default=None, repr=False)
    """(B, M − n) statistics of the noise of scored images: six for each block z[i, j], as the page "Typicality" lists
    them under "Measures". None for samples, whose noise was drawn at random."""

    @property
    def log_likelihood(self) -> NDArray[np.float64]:
        """(B,) log-likelihood, in nats."""
        total: NDArray[np.float64] = self.per_level.sum(-1)
        return total

    @property
    def bits_per_dim(self) -> NDArray[np.float64]:
        """(B,) bits per dimension: −log-likelihood / (dims · ln 2), for pixel values from 0 to 256."""
        total: NDArray[np.float64] = self.bits_per_dim_per_level.sum(-1)
        return total

    @property
    def bits_per_dim_per_level(self) -> NDArray[np.float64]:
        """(B, n) part of each level in `bits_per_dim`, the coarsest level first."""
        return bits_per_dim(self.per_level, self.dims.reshape(-1, *[1] * (self.per_level.ndim - 1)))

    @property
    def measures(self) -> NDArray[np.float64]:
        """(B, M) measures that the typicality is computed from.

        They are `bits_per_dim_per_level` and, for scored images, `statistics`.
        """
        bits = self.bits_per_dim_per_level
        return bits if self.statistics is None else np.concatenate([bits, self.statistics], -1)

    @property
    def log_likelihood_map(self) -> Stack:
        """Log-likelihood of each pixel in nats, a `Stack` of (H, W) float32. Its sum is the log-likelihood.

        It is 0 everywhere if the result is no sample (outcome "bicubic"), whose log-likelihood is NaN.
        """
        return stack([map_per_pixel(maps, *side) for maps, side in zip(self.maps, self.sides, strict=True)])

    @property
    def log_likelihood_map_per_level(self) -> Stack:
        """Log-likelihood of each pixel and level in nats, a `Stack` of (n, H, W) float32."""
        return stack([self._level_maps(maps, side) for maps, side in zip(self.maps, self.sides, strict=True)])

    def _level_maps(self, maps: LogLikelihoodMaps, sides: tuple[int, int]) -> NDArray[np.float32]:
        return np.stack([map_per_pixel(level, *sides) for level in maps_per_level(maps, self.per_level.shape[-1])])


@dataclass(frozen=True, kw_only=True)
class Score(Likelihood):
    """Likelihoods of existing targets."""

    def verdicts(self, min_typicality: float) -> NDArray[np.str_] | None:
        """Return (B,) verdicts: "accepted", "rejected", or "unjudged" if the calibration has no such images.

        Return None if no target is judged, because the bundle is not calibrated, or `min_typicality` is 0.

        Arguments:
            min_typicality: false rejection rate, 0…1, as in `Typicality.accept`.

        Raises:
            InputError: if min_typicality is not between 0 and 1.
        """
        check_share("min_typicality", min_typicality)
        known = self.image_typicality
        if known is None or min_typicality == 0:
            return None
        return np.where(known.is_judged, np.where(known.accept(min_typicality), "accepted", "rejected"), "unjudged")


@dataclass(frozen=True, kw_only=True)
class Best(Likelihood):
    """The best of N samples of each image."""

    images: Stack = field(repr=False)
    """A `Stack` of (H, W, 3) uint8 RGB. Models of chroma draw luma and chroma at a smaller size, and `Pipeline.finish`
    makes results of them."""
    deep: Stack | None = field(default=None, repr=False)
    """The images with 16 bits, a `Stack` of (H, W, 3) uint16 RGB. Rounded to 8 bits, they are `images`, and the
    likelihood is that of `images`. Only the commands request them: None from the methods of this page."""
    sample: NDArray[np.int64]
    """(B,) number of the chosen sample, from 0; the same seed draws it again. −1 if the result is no sample, but the
    enlarged input."""
    consistency: NDArray[np.float64] | None = None
    """(B,) consistency in dB: the PSNR between the image, degraded again, and its condition. None if it was not
    computed."""
    outcome: list[Outcome] = field(default_factory=list)
    """Kind of each result: a sample, or what is returned instead if all samples were rejected."""
    rejected: NDArray[np.int64] | None = None
    """(B,) number of samples that were rejected or are not finite."""
    bits_per_dim_drawn: list[NDArray[np.float64]] = field(default_factory=list, repr=False)
    """Bits per dimension of all finite samples of each image, in no particular order."""


@dataclass(frozen=True, kw_only=True)
class Samples(Likelihood):
    """All samples of each image, the best first. Every array has N as its second axis."""

    images: Stack = field(repr=False)
    """A `Stack` of (N, H, W, 3) uint8 RGB."""
    deep: Stack | None = field(default=None, repr=False)
    """The images with 16 bits, a `Stack` of (N, H, W, 3) uint16 RGB, as in `Best`."""
    sample: NDArray[np.int64]
    """(B, N) numbers of the samples, from 0."""
    consistency: NDArray[np.float64] | None = None
    """(B, N) consistency in dB, as in `Best`."""

    @property
    def std(self) -> Stack:
        """Uncertainty map: the standard deviation over the samples in grey levels, a `Stack` of (H, W, 3) float32."""
        return stack([_std(images) for images in self.images])

    @property
    def log_likelihood_map(self) -> Stack:
        """Log-likelihood of each pixel in nats, a `Stack` of (N, H, W) float32."""
        return stack(
            [
                np.stack([map_per_pixel(one, *side) for one in maps])
                for maps, side in zip(self.maps, self.sides, strict=True)
            ]
        )

    @property
    def log_likelihood_map_per_level(self) -> Stack:
        """Log-likelihood of each pixel and level in nats, a `Stack` of (N, n, H, W) float32."""
        return stack(
            [
                np.stack([self._level_maps(one, side) for one in maps])
                for maps, side in zip(self.maps, self.sides, strict=True)
            ]
        )


@dataclass(frozen=True, kw_only=True)
class Encoded(Score):
    """Likelihoods of existing targets, and the noise that produces them."""

    noise: list[list[NDArray[np.float32]]] = field(repr=False)
    """For each image, z of each level, the coarsest level first: (channels, h, w). The channels contain the blocks z[i,
    j] for i = j … n−1, in this order."""


def _std(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the standard deviation of (N, H, W, 3) over the first axis, computed line by line to save memory."""
    found = np.empty(images.shape[1:], np.float32)
    for y in range(len(found)):
        found[y] = images[:, y].std(0, dtype=np.float32)
    return found


def bits_per_dim(log_likelihood: Any, dims: Any) -> NDArray[np.float64]:
    """Return −log-likelihood / (dims · ln 2)."""
    bits: NDArray[np.float64] = -np.asarray(log_likelihood) / (dims * math.log(2))
    return bits


def stack(arrays: Sequence[NDArray[Any]]) -> Stack:
    """Return one array if all arrays have the same shape, else a list."""
    return np.stack(arrays) if len({array.shape for array in arrays}) == 1 else list(arrays)
