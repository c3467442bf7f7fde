"""Errors that are allowed in each precision of a bundle's networks."""

from dataclasses import dataclass

from caflow_runtime.bundle.manifest import PrecisionName
from caflow_runtime.flow.selftest import Kind


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


TOLERANCES: dict[PrecisionName, Tolerances] = {
    # float32 keeps 7 digits; a chain of some hundred layers whose log-scales reach ±2 loses 2 or 3 of them.
    "fp32": Tolerances(1e-4, 1e-4, 1e-5, 1e-3, 1e-5, 1e-3),
    # Half keeps 3 digits (2^-11): a log-scale of up to 2 is off by up to 1e-3, in each of the layers.
    "fp16": Tolerances(3e-2, 5e-2, 5e-3, None, 1e-3, 5e-2),
    # bfloat16 keeps 2 digits (2^-8): eight times as far off as half.
    "bf16": Tolerances(2e-1, 5e-1, 5e-2, None, 1e-2, 3e-1),
    # 8-bit integers are another model: its likelihoods are a few per cent off. Rounding is a step, so where the two
    # directions differ in the last digit of a float32, one value in thousands comes back a step away.
    "int8": Tolerances(3e-1, 2e-1, 2e-2, None, 5e-2, 1.5),
}
