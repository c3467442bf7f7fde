"""Comparison of each graph with an exact graph, on inputs computed by the chain of exact graphs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from caflow_export.measure import Measure
from caflow_runtime.flow import scan
from caflow_runtime.flow.scan import Array, Arrays, Graph


@dataclass(frozen=True)
class GroupedConvolutions:
    """Exact graphs, the graphs to compare with them, and the record of the errors."""

    exact: Mapping[str, Graph]
    graphs: Mapping[str, Graph]
    measure: Measure
    tolerance: float
    """Largest error allowed for outputs that are not uint8.

    An error is divided by the largest absolute value of its output if that is above 1.
    """
    place: str
    """Suffix of the names of the measured outputs."""

    def run(self, levels: int, condition: Array, image: Array, noise: list[Array]) -> scan.ChainResult:
        """Measure the errors of all graphs while the exact chain draws samples and scores the rounded samples.

        Returns:
            The samples of the exact chain.
        """
        both = {name: self._both(name) for name in self.exact}
        encoded = scan.encode(both, condition)
        drawn = scan.sample(both, levels, encoded, image, noise)
        integers = both["to_image"]({"pixels": drawn.pixels})["integers"]
        pixels = (integers + np.float32(0.5)).astype(drawn.pixels.dtype)
        if "dequantize" in both:
            pixels = both["dequantize"]({"integers": integers})["pixels"]
        scan.score(both, levels, encoded, image, pixels)
        return drawn

    def _both(self, name: str) -> Graph:
        def run(arrays: Arrays) -> dict[str, Array]:
            wanted, got = self.exact[name](arrays), self.graphs[name](arrays)
            for key, value in wanted.items():
                is_byte, precise = value.dtype == np.uint8, value.astype(np.float64)
                scale = 255.0 if is_byte else max(float(np.abs(precise).max()), 1.0)
                error = (np.asarray(got[key], np.float64) - precise) / scale
                self.measure(name, f"{key}{self.place}", error, 1 / 255 if is_byte else self.tolerance)
            return wanted

        return run
