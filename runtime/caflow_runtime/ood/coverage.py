"""Coverage: ranks of true images among samples, which show whether the samples vary as much as the truth.

If the true image were one more sample, its rank among N samples would be uniform in every quantity (simulation-based
calibration: Talts et al., arXiv 1804.06788). Too many ranks at both ends mean that samples are too similar to each
other. Too many ranks in the middle mean that they differ too much. Too many ranks at one end mean that they are biased.
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
    """Histogram of the ranks of true images, for one quantity of blocks that are as large as the cells of one level."""

    level: Annotated[int, Meta(ge=0, le=7)]
    """Level whose cell size is the block size; 0 is the coarsest."""
    quantity: Quantity
    """Quantity of a block of grey levels: its mean or its variance. Except at the coarsest level, the mean of the
    enclosing block of twice the side is subtracted from the mean."""
    temperature: Annotated[float, Meta(ge=0, le=1e30)]
    """Temperature of the samples."""
    counts: Annotated[list[Annotated[int, Meta(ge=0, le=2**31 - 1)]], Meta(min_length=2, max_length=1001)]
    """Histogram of N + 1 ranks: entry r is the number of true images with exactly r of the N samples below them."""

    def __post_init__(self) -> None:
        if not sum(self.counts):
            raise ValueError("counts must contain at least one rank")

    @property
    def images(self) -> int:
        """Number of true images that were ranked."""
        return sum(self.counts)

    @property
    def inside(self) -> float:
        """Fraction of true images between the lowest and the highest sample."""
        return sum(self.counts[1:-1]) / self.images

    @property
    def expected(self) -> float:
        """Expected value of `inside` if the truth were one more sample: (N − 1) / (N + 1)."""
        return (len(self.counts) - 2) / len(self.counts)


def rank_of(truth: float, samples: Floats, rng: np.random.Generator) -> int:
    """Return the number of samples below the truth. Ties are broken at random."""
    below, equal = int((samples < truth).sum()), int((samples == truth).sum())
    return below + int(rng.integers(equal + 1))


def quantity_of(greys: Floats, quantity: Quantity, side: int, is_coarsest: bool, block: tuple[int, int]) -> Floats:
    """Return the quantity of one block of N images, (N,).

    Arguments:
        greys: (N, H, W) grey levels.
        side: side of the block in pixels.
        is_coarsest: whether the block belongs to the coarsest level, whose means are not taken relative to a larger
            block.
        block: row and column of the block, counted in blocks.
    """
    top, left = side * block[0], side * block[1]
    inside = greys[:, top : top + side, left : left + side]
    if quantity == "variance":
        return np.asarray(inside.var((1, 2)))
    means = inside.mean((1, 2))
    if is_coarsest:
        return np.asarray(means)
    top, left = 2 * side * (block[0] // 2), 2 * side * (block[1] // 2)
    return np.asarray(means - greys[:, top : top + 2 * side, left : left + 2 * side].mean((1, 2)))
