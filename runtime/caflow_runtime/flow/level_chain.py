"""The chain of graphs: sampling runs from coarse to fine levels, scoring from fine to coarse levels.

A graph is any callable from named arrays to named arrays, so this module does not depend on a backend.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Graph = Callable[[Arrays], dict[str, Array]]
"""A graph uses the arrays that it has inputs for and ignores the others. Types here are NumPy's, but a backend may use
its own arrays."""


class Pruning(Protocol):
    """Progressive best-of-N, which drops items between levels."""

    def kept(self, j: int, maps: list[list[Array]]) -> NDArray[np.int64] | None:
        """Return the indices of the items to continue with after level j, or None to continue with all items.

        Arguments:
            j: level that was just computed.
            maps: log-likelihood maps of all levels so far.
        """

    def take(self, array: Array, items: NDArray[np.int64]) -> Array:
        """Return the selected items of an array."""


@dataclass(frozen=True)
class ChainResult:
    """Result of sampling or scoring R items, which are (image, sample) pairs."""

    pixels: Array
    """(R, H, W, 3) float32, continuous pixel values."""
    noise: list[Array]
    """Noise z of each level, coarsest first: (R, channels, h, w), the blocks z[i, j], i = j … n−1, concatenated along
    the channels."""
    maps: list[list[Array]]
    """Log-likelihood maps of each level's graphs, coarsest level first: (R, h, w) maps in nats."""
    kept: NDArray[np.int64] | None = None
    """(R,) indices of these items among the input items; None if no items were dropped."""

    @property
    def log_likelihood(self) -> NDArray[np.float64]:
        """Log p(target | condition) by item and level: (R, n) nats, summed in float64."""
        levels = [sum(m.sum((1, 2), dtype=np.float64) for m in maps) for maps in self.maps]
        return np.stack(levels, axis=1)


def encode(
    graphs: Mapping[str, Graph], condition: NDArray[np.uint8], degradation: NDArray[np.float32] | None = None
) -> dict[str, Array]:
    """Return the outputs of the graph `encode` for conditions (B, h, w, 3) uint8 RGB.

    They are all terms that depend on the condition only.

    Arguments:
        degradation: (B, 13) float32, for models that are told of it. By default it is estimated from these conditions
            alone, which may be parts of larger ones.
    """
    if "estimate" not in graphs:
        return graphs["encode"]({"condition": condition})
    if degradation is None:
        degradation = graphs["estimate"]({"condition": condition})["degradation"]
    return graphs["encode"]({"condition": condition, "degradation": degradation})


def sample(
    graphs: Mapping[str, Graph],
    levels: int,
    encoded: Arrays,
    image: NDArray[np.int64],
    noise: list[Array],
    pruning: Pruning | None = None,
) -> ChainResult:
    """Draw one target per item from its noise.

    Arguments:
        encoded: output of `encode` for B conditions.
        image: (R,) int64, index of each item's condition.
        noise: z of each level, as in `ChainResult`: standard normal numbers times the temperature.
        pruning: selects the items to drop between levels; by default no items are dropped.
    """
    maps: list[list[Array]] = []
    noise = list(noise)
    passing = carry = kept = None
    for j in range(levels):
        decoded = graphs[f"decode_{j}"](_given(z=noise[j], passing=passing, image=image) | _terms(encoded, j))
        known = _residual(encoded, image) if j == levels - 1 else {}
        reversed_ = graphs[f"reverse_{j}"](_given(latent=decoded["latent"], carry=carry) | known)
        passing, carry = decoded.get("next_passing"), reversed_.get("next_carry")
        maps.append([decoded["log_likelihood_map"], reversed_["log_likelihood_map"]])
        items = pruning.kept(j, maps) if pruning and j < levels - 1 else None
        if pruning and items is not None:
            take = pruning.take
            kept = items if kept is None else kept[items]
            image, carry = take(image, items), take(reversed_["next_carry"], items)
            passing = None if passing is None else take(passing, items)
            noise = [take(z, items) for z in noise]
            maps = [[take(one, items) for one in level] for level in maps]
    return ChainResult(reversed_["pixels"], noise, maps, kept)


def score(
    graphs: Mapping[str, Graph],
    levels: int,
    encoded: Arrays,
    image: NDArray[np.int64],
    pixels: Array,
) -> ChainResult:
    """Return the log-likelihood and the noise of targets, (R, H, W, 3) float32 continuous pixel values."""
    maps: list[list[Array]] = [[] for _ in range(levels)]
    noise: list[Array] = [pixels] * levels
    latents = [pixels] * levels
    carry = passing = None
    for j in reversed(range(levels)):
        finest = j == levels - 1
        known = _residual(encoded, image) if finest else {}
        out = graphs[f"forward_{j}"](_given(pixels=pixels if finest else None, carry=carry) | known)
        latents[j], carry = out["latent"], out.get("next_carry")
        maps[j].append(out["log_likelihood_map"])
    for j in reversed(range(levels)):
        out = graphs[f"likelihood_{j}"](_given(latent=latents[j], passing=passing, image=image) | _terms(encoded, j))
        noise[j], passing = out["z"], out.get("next_passing")
        maps[j].append(out["log_likelihood_map"])
    return ChainResult(pixels, noise, maps)


def _given(**arrays: Array | None) -> dict[str, Array]:
    """Return the arrays that are not None."""
    return {name: array for name, array in arrays.items() if array is not None}


def _residual(encoded: Arrays, image: NDArray[np.int64]) -> dict[str, Array]:
    """Return additional inputs of the finest level's graphs, for models of a residual.

    The residual is relative to the prediction of the mean network or, without a mean network, to the prepared
    condition. Graphs ignore arrays that they have no input for.
    """
    return _given(prepared=encoded["prepared"], mean=encoded.get("mean"), image=image)


def _terms(encoded: Arrays, j: int) -> dict[str, Array]:
    """Return the outputs of `encode` for level j, by the names of the graphs' inputs."""
    suffix = f"_{j}"
    return {name.removesuffix(suffix): array for name, array in encoded.items() if name.endswith(suffix)}
