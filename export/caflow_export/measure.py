"""Errors of graphs against what is allowed in each precision: measured, printed, and refused where they are larger."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from caflow_runtime.bundle.manifest import Measurement
from caflow_runtime.flow.scan import Array
from caflow_runtime.health.selftest import Kind


@dataclass(frozen=True)
class Tolerances:
    """Largest errors allowed in one precision; each is an error relative to the largest value, or as it says."""

    graph: float
    """Of a graph's outputs."""
    pixels: float
    """Of the whole chain's pixels, as a share of full scale: the largest."""
    pixels_rms: float
    """The same, root mean square."""
    rounded: float | None
    """Share of 8-bit values that may differ; None where the type is too coarse to say."""
    log_likelihood: float
    """Relative, of a row."""
    noise: float
    """Of the noise that comes back from decode → likelihood."""

    @property
    def flow(self) -> dict[Kind, float]:
        """Of what holds of any flow (`selftest.flow_errors`)."""
        return {"noise": self.noise, "density": self.log_likelihood, "rows": self.pixels / 10}


TOLERANCES = {
    # float32 keeps 7 digits; a chain of some hundred layers whose log-scales reach ±2 loses 2 or 3 of them.
    "fp32": Tolerances(1e-4, 1e-4, 1e-5, 1e-3, 1e-5, 1e-3),
    # Half keeps 3 digits (2^-11): a log-scale of up to 2 is off by up to 1e-3, in each of the layers.
    "fp16": Tolerances(3e-2, 5e-2, 5e-3, None, 1e-3, 5e-2),
    # bfloat16 keeps 2 digits (2^-8): eight times as far off as half.
    "bf16": Tolerances(2e-1, 5e-1, 5e-2, None, 1e-2, 3e-1),
}


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
