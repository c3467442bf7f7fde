"""Record of the graphs' errors. Each error is printed and compared with its tolerance."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from caflow_runtime.bundle.manifest import Measurement
from caflow_runtime.flow import level_chain
from caflow_runtime.flow.level_chain import Array, Arrays, Graph


class VerificationFailed(RuntimeError):
    """A graph does not compute the same as the model: an error is larger than its tolerance."""


class Measure:
    """Records errors one by one, and fails at the first error that is larger than its tolerance."""

    def __init__(self, verified_with: str) -> None:
        """Start without measurements.

        Arguments:
            verified_with: name of the backend that ran the graphs.
        """
        self.verified_with = verified_with
        self.measured: list[Measurement] = []

    def __call__(self, graph: str, what: str, error: Array | float, tolerance: float) -> None:
        """Record the absolute values of `error`. `what` names the quantity that was measured.

        Raises:
            VerificationFailed: if the largest error exceeds the tolerance. The message names the graph and `what`.
        """
        values = np.abs(np.asarray(error, np.float64))
        worst = float(values.max()) if np.isfinite(values).all() else float("inf")
        result = Measurement(graph, what, worst, float(values.mean()), tolerance, self.verified_with)
        self.measured.append(result)
        if worst > tolerance:
            raise VerificationFailed(
                f"{graph}: {what}: the error must be at most {tolerance:.0e}; got {worst:.2e} ({self.verified_with})"
            )


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

    def run(self, levels: int, condition: Array, image: Array, noise: list[Array]) -> level_chain.ChainResult:
        """Measure the errors of all graphs while the exact chain draws samples and scores the rounded samples.

        Returns:
            The samples of the exact chain.
        """
        both = {name: self._both(name) for name in self.exact}
        encoded = level_chain.encode(both, condition)
        drawn = level_chain.sample(both, levels, encoded, image, noise)
        integers = both["to_image"]({"pixels": drawn.pixels})["integers"]
        pixels = (integers + np.float32(0.5)).astype(drawn.pixels.dtype)
        if "dequantize" in both:
            pixels = both["dequantize"]({"integers": integers})["pixels"]
        level_chain.score(both, levels, encoded, image, pixels)
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
