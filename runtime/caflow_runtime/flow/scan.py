"""The chain of graphs: sampling runs coarse to fine, scoring fine to coarse.

A graph is any callable from named arrays to named arrays, so this file knows no backend.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Graph = Callable[[Arrays], dict[str, Array]]
"""Takes the arrays that it names and ignores the others. Arrays are numpy's here; they may be any backend's."""


class Pruning(Protocol):
    """Progressive best-of-N: drops rows between levels."""

    def kept(self, j: int, shares: list[list[Array]]) -> NDArray[np.int64] | None:
        """After level j, given the shares so far: the rows to continue with, or None for all of them."""

    def take(self, array: Array, rows: NDArray[np.int64]) -> Array:
        """The rows of an array."""


@dataclass(frozen=True)
class Rows:
    """What one pass over the graphs gives, for rows of (image, sample) pairs."""

    pixels: Array
    """(R, H, W, 3) float32, continuous pixel values."""
    noise: list[Array]
    """z of each level, coarsest first: (R, channels, h, w), the z[i, j], i = j … n−1, side by side."""
    shares: list[list[Array]]
    """Of each level, coarsest first, the maps that its graphs add to the log-likelihood, (R, h, w) nats."""
    kept: NDArray[np.int64] | None = None
    """(R,) which of the rows that went in these are, where some were pruned."""

    @property
    def log_likelihood(self) -> NDArray[np.float64]:
        """log p(target | condition) per row and level, (R, n) nats, summed in float64."""
        levels = [sum(m.sum((1, 2), dtype=np.float64) for m in maps) for maps in self.shares]
        return np.stack(levels, axis=1)


def encode(graphs: Mapping[str, Graph], condition: NDArray[np.uint8]) -> dict[str, Array]:
    """All that follows from conditions, (B, h, w, 3) uint8 RGB, alone."""
    return graphs["encode"]({"condition": condition})


def sample(
    graphs: Mapping[str, Graph],
    levels: int,
    encoded: Arrays,
    image: NDArray[np.int64],
    noise: list[Array],
    pruning: Pruning | None = None,
) -> Rows:
    """One target per row from its noise, z as it is scored: N(0, τ²).

    Arguments:
        encoded: what `encode` gave for B conditions.
        image: (R,) int64, which of them each row is of.
        noise: z of each level, as in `Rows`.
        pruning: which rows are dropped on the way; by default none.
    """
    shares: list[list[Array]] = []
    noise = list(noise)
    passing = carry = kept = None
    for j in range(levels):
        decoded = graphs[f"decode_{j}"](_given(z=noise[j], passing=passing, image=image) | _terms(encoded, j))
        known = _residual(encoded, image) if j == levels - 1 else {}
        reversed_ = graphs[f"reverse_{j}"](_given(latent=decoded["latent"], carry=carry) | known)
        passing, carry = decoded.get("next_passing"), reversed_.get("next_carry")
        shares.append([decoded["share"], reversed_["share"]])
        rows = pruning.kept(j, shares) if pruning and j < levels - 1 else None
        if pruning and rows is not None:
            take = pruning.take
            kept = rows if kept is None else kept[rows]
            image, carry = take(image, rows), take(reversed_["next_carry"], rows)
            passing = None if passing is None else take(passing, rows)
            noise = [take(z, rows) for z in noise]
            shares = [[take(share, rows) for share in maps] for maps in shares]
    return Rows(reversed_["pixels"], noise, shares, kept)


def score(
    graphs: Mapping[str, Graph],
    levels: int,
    encoded: Arrays,
    image: NDArray[np.int64],
    pixels: Array,
) -> Rows:
    """The log-likelihood of targets, (R, H, W, 3) float32 continuous pixel values, and their noise."""
    shares: list[list[Array]] = [[] for _ in range(levels)]
    noise: list[Array] = [pixels] * levels
    latents = [pixels] * levels
    carry = passing = None
    for j in reversed(range(levels)):
        finest = j == levels - 1
        known = _residual(encoded, image) if finest else {}
        out = graphs[f"forward_{j}"](_given(pixels=pixels if finest else None, carry=carry) | known)
        latents[j], carry = out["latent"], out.get("next_carry")
        shares[j].append(out["share"])
    for j in reversed(range(levels)):
        out = graphs[f"likelihood_{j}"](_given(latent=latents[j], passing=passing, image=image) | _terms(encoded, j))
        noise[j], passing = out["z"], out.get("next_passing")
        shares[j].append(out["share"])
    return Rows(pixels, noise, shares)


def _given(**arrays: Array | None) -> dict[str, Array]:
    return {name: array for name, array in arrays.items() if array is not None}


def _residual(encoded: Arrays, image: NDArray[np.int64]) -> dict[str, Array]:
    """What the finest level's graphs take where the target is modelled as a residual: to the mean network's prediction
    or, without one, to the prepared condition. Graphs ignore what they have no input for."""
    return _given(prepared=encoded["prepared"], mean=encoded.get("mean"), image=image)


def _terms(encoded: Arrays, j: int) -> dict[str, Array]:
    """What `encode` gave for level j, by the names of the graphs' inputs."""
    suffix = f"_{j}"
    return {name.removesuffix(suffix): array for name, array in encoded.items() if name.endswith(suffix)}
