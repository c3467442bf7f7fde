"""Record of the graphs' errors. Each error is printed and compared with its tolerance."""

from collections.abc import Callable

import numpy as np

from caflow_runtime.bundle.manifest import Measurement
from caflow_runtime.flow.scan import Array


class VerificationFailed(RuntimeError):
    """A graph does not compute the same as the model: an error is larger than its tolerance."""


class Measure:
    """Records errors one by one, and fails at the first error that is larger than its tolerance."""

    def __init__(self, verified_with: str, say: Callable[[str], None] | None) -> None:
        """Start without measurements.

        Arguments:
            verified_with: name of the backend that ran the graphs.
            say: called with a heading, then with one line per error, which ends in "ok" or "FAILED".
        """
        self.verified_with = verified_with
        self.say = say
        self.measured: list[Measurement] = []
        if say:
            say(f"{'graph':14} {'what':44} {'largest':>9} {'mean':>9} {'allowed':>9}")

    def __call__(self, graph: str, what: str, error: Array | float, tolerance: float) -> None:
        """Record the absolute values of `error`. `what` names the quantity that was measured.

        Raises:
            VerificationFailed: if the largest error exceeds the tolerance. The message names the graph and `what`.
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
                f"{graph}: {what}: the error must be at most {tolerance:.0e}; got {worst:.2e} ({self.verified_with})"
            )
