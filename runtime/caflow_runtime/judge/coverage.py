"""Whether the spread of samples is as wide as what is not known: ranks of the truth among samples.

Were the truth one more sample, its rank among N of them would be uniform, in every quantity (simulation-based
calibration: Talts et al., arXiv 1804.06788). Ranks that pile up at both ends say that samples are too much alike, ranks
in the middle that they differ too much, and ranks on one side that they are biased.
"""

from typing import Annotated, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from caflow_runtime.bundle.manifest import Strict

Quantity = Literal["mean", "variance"]
QUANTITIES: tuple[Quantity, ...] = ("mean", "variance")
Floats = NDArray[np.float64]


class Coverage(Strict, frozen=True):
    """Ranks of the truth in one quantity of one level: of blocks as large as the level's cells."""

    level: Annotated[int, Meta(ge=0, le=7)]
    """The coarsest is 0."""
    quantity: Quantity
    """Of a block: its mean, without the mean of the block of twice the side that it lies in, but for the coarsest
    level; or the variance of its pixels' grey levels."""
    temperature: Annotated[float, Meta(ge=0, le=1e30)]
    """Of the samples."""
    counts: Annotated[list[Annotated[int, Meta(ge=0, le=2**31 - 1)]], Meta(min_length=2, max_length=1001)]
    """Of N + 1 ranks: how many truths had so many of N samples below them."""

    def __post_init__(self) -> None:
        if not sum(self.counts):
            raise ValueError("wanted at least one rank")

    @property
    def images(self) -> int:
        """Truths that were ranked."""
        return sum(self.counts)

    @property
    def inside(self) -> float:
        """The share of truths between the lowest and the highest sample."""
        return sum(self.counts[1:-1]) / self.images

    @property
    def expected(self) -> float:
        """What `inside` would be if the truth were one more sample: (N − 1) / (N + 1)."""
        return (len(self.counts) - 2) / len(self.counts)


def rank_of(truth: float, samples: Floats, rng: np.random.Generator) -> int:
    """How many of the samples are below the truth; by chance where they are equal."""
    below, equal = int((samples < truth).sum()), int((samples == truth).sum())
    return below + int(rng.integers(equal + 1))


def quantity_of(greys: Floats, quantity: Quantity, side: int, is_coarsest: bool, block: tuple[int, int]) -> Floats:
    """(N,) of N images, (N, H, W) grey levels, in one block of that side, by its number down and across."""
    top, left = side * block[0], side * block[1]
    inside = greys[:, top : top + side, left : left + side]
    if quantity == "variance":
        return np.asarray(inside.var((1, 2)))
    means = inside.mean((1, 2))
    if is_coarsest:
        return np.asarray(means)
    top, left = 2 * side * (block[0] // 2), 2 * side * (block[1] // 2)
    return np.asarray(means - greys[:, top : top + 2 * side, left : left + 2 * side].mean((1, 2)))
