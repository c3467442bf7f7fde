"""The canary: one made-up sample whose log-likelihood tells an engine that computes something else than it should."""

from caflow_runtime.flow.selftest import smooth_conditions
from caflow_runtime.pipeline.pipeline import Pipeline

TEMPERATURE = 0.8
SIDE_IN_MULTIPLES = 4


def canary_log_likelihood(pipe: Pipeline) -> float:
    """Nats of a sample that every backend draws alike.

    Raises:
        NotFinite
    """
    model = pipe.manifest.model
    side = SIDE_IN_MULTIPLES * model.size_multiple // model.scale
    (condition,) = smooth_conditions(1, side, side)
    return float(pipe.best_of(condition, n=1, temperature=TEMPERATURE).log_likelihood[0])


def canary_difference(pipe: Pipeline) -> float:
    """Nats above what it was at calibration.

    Raises:
        InputError: if the bundle is not calibrated.
        NotFinite
    """
    known = pipe.calibration.canary.log_likelihood
    return canary_log_likelihood(pipe) - known
