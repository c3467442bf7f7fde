"""Best of N in device memory: conditions and results of other libraries are not copied to the host."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.batching.batch_arrays import draw_noise, map_on_host, owners
from caflow_runtime.batching.batch_size import TileBatch
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.batching.runner import Runner
from caflow_runtime.bundle.known_values import VALUES
from caflow_runtime.bundle.manifest import Model
from caflow_runtime.errors import InputError, NotFinite
from caflow_runtime.flow import level_chain
from caflow_runtime.flow.tiles import Tile, TileAxis
from caflow_runtime.pipeline.choice import TRY_LOWER
from caflow_runtime.pipeline.results import bits_per_dim


@dataclass(frozen=True)
class DeviceBest:
    """Best of N samples of each condition, in device memory."""

    images: Any
    """(B, H, W, 3) uint8 RGB in device memory, for DLPack. On a GPU with CuPy it is an array of CuPy, which has
    `__cuda_array_interface__` as well."""
    sample: NDArray[np.int64]
    """(B,) number of the chosen sample, from 0."""
    per_level: NDArray[np.float64]
    """(B, n) log-likelihood of each level in nats, the coarsest level first, at the continuous point that was drawn."""
    dims: int
    """Number of values in one image: 3 H W."""

    @property
    def log_likelihood(self) -> NDArray[np.float64]:
        """(B,) log-likelihood, in nats."""
        return np.asarray(self.per_level.sum(1))

    @property
    def bits_per_dim(self) -> NDArray[np.float64]:
        """(B,) bits per dimension: −log-likelihood / (dims · ln 2), for pixel values from 0 to 256."""
        return bits_per_dim(self.log_likelihood, self.dims)


def best_on_device(runner: Runner, condition: Any, config: DrawOptions) -> DeviceBest:
    """Draw samples of all conditions in one run. Return the most likely sample of each condition.

    Arguments:
        condition: (B, h, w, 3) uint8 RGB array in device memory.

    Raises:
        InputError: if the condition has a wrong type or shape, does not fit in one run, or requires padding, which is
            only done on the host.
        NotFinite: if no sample of a condition is finite.
        MemoryError: if memory runs out.
    """
    if runner.model.condition_channels != VALUES:
        raise InputError("run: a model with a mask keeps known values on the host; use best_of")
    (count, height, width), n = _checked(runner.model, condition), config.number
    graphs, backend, levels = runner.graphs, runner.backend, runner.model.levels
    y, x = (TileAxis(0, np.ones(side, np.float32)) for side in (height, width))
    window = Tile(y, x)
    if remedy := runner.limits().remedy(count * n, height, width):
        raise InputError(f"{count} × {n} samples of {width}×{height} pixels must fit in one batch: use {remedy}")
    units = [TileBatch(k, window, tuple(range(n))) for k in range(count)]
    noise = draw_noise(graphs, units, config)
    given = {"condition": backend.adopt(condition)}
    if "estimate" in graphs:  # degradations are estimated from a copy on the host, as usual
        degradations = runner.degradations(list(backend.to_host(given["condition"])))
        assert degradations is not None
        given["degradation"] = backend.to_device(degradations)
    items = level_chain.sample(graphs, levels, graphs["encode"](given), owners(graphs, units), noise)
    maps = [[map_on_host(graphs, one, window) for one in level] for level in items.maps]
    per_level = [sum(one.sum((1, 2), dtype=np.float64) for one in level) for level in maps]
    likelihood = np.stack(per_level, 1).reshape(count, n, -1)
    total = likelihood.sum(2)
    finite = np.isfinite(total) & backend.are_finite(items.pixels).reshape(count, n)
    if not finite.any(1).all():
        raise NotFinite(f"no sample of condition[{int(np.argmin(finite.any(1)))}] is finite: {TRY_LOWER}")
    best = np.where(finite, total, -np.inf).argmax(1)
    pixels = items.pixels if n == 1 else backend.take(items.pixels, np.arange(count) * n + best)
    images = backend.lend(graphs["to_image"]({"pixels": pixels})["integers"])
    return DeviceBest(images, best, likelihood[np.arange(count), best], 3 * height * width)


def _checked(model: Model, condition: Any) -> tuple[int, int, int]:
    """Check the condition. Return the number of conditions, and height and width of their targets."""
    shape, dtype = tuple(getattr(condition, "shape", ())), str(getattr(condition, "dtype", "unknown"))
    if len(shape) != 4 or shape[3] != 3 or min(shape) < 1 or "uint8" not in dtype:
        raise InputError(
            f"condition: expected a device array (B, h, w, 3) of uint8 RGB; got {type(condition).__name__} of "
            f"shape {shape} and type {dtype}"
        )
    height, width = (model.scale * side for side in shape[1:3])
    if height % model.size_multiple or width % model.size_multiple:
        raise InputError(
            f"condition: both sides must be multiples of {model.size_multiple // model.scale} pixels; got "
            f"{shape[2]}×{shape[1]}: pad it, or pass it to best_of as a NumPy array"
        )
    return shape[0], height, width
