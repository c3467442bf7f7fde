"""Numerical errors that are allowed for each precision of a bundle's networks."""

from dataclasses import dataclass

from caflow_runtime.bundle.manifest import PrecisionName
from caflow_runtime.flow.selftest import Kind


@dataclass(frozen=True)
class Tolerances:
    """Maximum errors allowed for one precision. Errors are relative to the largest value unless stated otherwise."""

    graph: float
    """Maximum error of a graph's outputs."""
    pixels: float
    """Maximum error of the whole chain's pixels, as a fraction of full scale."""
    pixels_rms: float
    """Root mean square error of the whole chain's pixels, as a fraction of full scale."""
    rounded: float | None
    """Fraction of 8-bit values that may differ; None if the precision is too low for such a limit."""
    log_likelihood: float
    """Maximum relative error of an item's log-likelihood."""
    noise: float
    """Maximum absolute error of the noise that decode → likelihood returns."""

    @property
    def flow(self) -> dict[Kind, float]:
        """Tolerances for the errors of `selftest.flow_errors`, by kind."""
        return {"noise": self.noise, "density": self.log_likelihood, "items": self.pixels / 10}


TOLERANCES: dict[PrecisionName, Tolerances] = {
    # float32 has 7 digits. A chain of some hundred layers, with log-scales up to ±2, loses 2 or 3 of them.
    "fp32": Tolerances(1e-4, 1e-4, 1e-5, 1e-3, 1e-5, 1e-3),
    # float16 has 3 digits (2^-11): a log-scale of up to 2 has an error of up to 1e-3 in each layer.
    "fp16": Tolerances(3e-2, 5e-2, 5e-3, None, 1e-3, 5e-2),
    # bfloat16 has 2 digits (2^-8), so its errors are eight times those of float16.
    "bf16": Tolerances(2e-1, 5e-1, 5e-2, None, 1e-2, 3e-1),
    # 8-bit integers change the model: its likelihoods differ by a few per cent. Rounding is discontinuous. If the two
    # directions differ in the last digit of a float32, one value in thousands returns one quantization step away.
    "int8": Tolerances(3e-1, 2e-1, 2e-2, None, 5e-2, 1.5),
}
