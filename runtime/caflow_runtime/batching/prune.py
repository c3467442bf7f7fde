"""Progressive best-of-N: the least likely samples are dropped between levels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.batching.batch_arrays import map_on_host
from caflow_runtime.batching.batch_size import TileBatch
from caflow_runtime.flow.level_chain import Array
from caflow_runtime.flow.tiles import weighted


class LevelPruning:
    """Drops the least likely samples of each unit of a batch between levels.

    `keep[j + 1]` samples remain after level j.
    """

    def __init__(self, graphs: Graphs, units: list[TileBatch], keep: Sequence[int]) -> None:
        self.graphs = graphs
        self.units = units
        self.keep = keep
        self._owner = np.repeat(np.arange(len(units)), [len(unit.samples) for unit in units])

    def take(self, array: Array, items: NDArray[np.int64]) -> Array:
        return self.graphs.backend.take(array, items)

    def kept(self, j: int, maps: list[list[Array]]) -> NDArray[np.int64] | None:
        if self.keep[j + 1] == self.keep[j]:
            return None
        likelihood = self._so_far(maps)
        chosen = []
        for k in range(len(self.units)):
            items = np.flatnonzero(self._owner == k)
            chosen.append(np.sort(items[np.argsort(-likelihood[items], kind="stable")[: self.keep[j + 1]]]))
        kept = np.concatenate(chosen)
        self._owner = self._owner[kept]
        return kept

    def _so_far(self, maps: list[list[Array]]) -> NDArray[np.float64]:
        """Return the log-likelihood of each item over the levels so far. Values that are not finite become −∞."""
        total, window = np.zeros(len(self._owner)), self.units[0].window
        for one in (map_on_host(self.graphs, one, window) for level in maps for one in level):
            cell = window.y.length // one.shape[1]
            windows = (self.units[k].window for k in self._owner)
            total += [weighted(of_item, item, cell).sum() for of_item, item in zip(windows, one, strict=True)]
        return np.where(np.isfinite(total), total, -np.inf)
