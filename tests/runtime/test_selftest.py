"""The self-test of a flow: its errors of log-likelihoods."""

import math

import numpy as np
import pytest

from caflow_runtime.flow.selftest import likelihood_error


def test_errors_of_log_likelihoods_are_relative_but_near_zero() -> None:
    targets = np.zeros((3, 4, 2, 3), np.float32)
    one_bit = 24 * math.log(2)
    exact = np.array([-100.0, 100.0, 0.0])
    error = likelihood_error(exact + 0.5, exact, targets)
    assert error.tolist() == pytest.approx([0.5 / 100, 0.5 / 100, 0.5 / one_bit])
