"""Canary: the log-likelihood of a fixed sample of an artificial condition.

The calibration stores its value. If an engine later gives another value, the engine computes something else.
"""

from caflow_runtime.flow.selftest import conditions_for
from caflow_runtime.pipeline.pipeline import Pipeline

TEMPERATURE = 0.8
SIDE_IN_MULTIPLES = 4


def canary_log_likelihood(pipe: Pipeline) -> float:
    """Return the log-likelihood of the canary's sample, in nats. All backends draw the same sample.

    Raises:
        NotFinite: if the sample is not finite.
    """
    model = pipe.manifest.model
    side = SIDE_IN_MULTIPLES * model.size_multiple // model.scale
    (condition,) = conditions_for(model, 1, side, side)
    return float(pipe.best_of(condition, n=1, temperature=TEMPERATURE).log_likelihood[0])


def canary_difference(pipe: Pipeline) -> float:
    """Return the canary's log-likelihood minus its value at calibration, in nats.

    Raises:
        InputError: if the bundle is not calibrated.
        NotFinite: if the sample is not finite.
    """
    known = pipe.calibration.canary.log_likelihood
    return canary_log_likelihood(pipe) - known
