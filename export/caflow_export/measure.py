"""Errors of graphs against what is allowed in each precision: measured, printed, and refused where they are larger."""

from collections.abc import Callable

import numpy as np

from caflow_runtime.bundle.manifest import Measurement
from caflow_runtime.flow.scan import Array


class VerificationFailed(RuntimeError):
    """A graph does not compute what the model does."""


class Measure:
    """Takes errors one by one."""

    def __init__(self, verified_with: str, say: Callable[[str], None] | None) -> None:
        """Arguments:
        verified_with: what ran the graphs.
        say: is given a line for each error, with its verdict.
        """
        self.verified_with = verified_with
        self.say = say
        self.measured: list[Measurement] = []
        if say:
            say(f"{'graph':14} {'what':44} {'largest':>9} {'mean':>9} {'allowed':>9}")

    def __call__(self, graph: str, what: str, error: Array | float, tolerance: float) -> None:
        """Raises:
        VerificationFailed: naming the graph and what is off by more than its tolerance.
        """
        values = np.abs(np.asarray(error, np.float64))
        worst = float(values.max()) if np.isfinite(values).all() else float("inf")
        result = Measurement(graph, what, worst, float(values.mean()), tolerance, self.verified_with)
        self.measured.append(result)
        verdict = "ok" if worst <= tolerance else "FAILED"
        if self.say:
            self.say(f"{graph:14} {what:44} {worst:9.2e} {result.mean_error:9.2e} {tolerance:9.0e}  {verdict}")
        if worst > tolerance:
            raise VerificationFailed(
                f"{graph}: {what}: wanted an error of at most {tolerance:.0e}, got {worst:.2e} ({self.verified_with})"
            )
