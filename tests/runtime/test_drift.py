"""Drift: chance is rarely a finding, and a shift that no single image shows is found."""

import numpy as np
import pytest
from scipy import stats

from caflow_runtime.errors import InputError
from caflow_runtime.ood.drift import SMALL_P, Drift


def drift_of(values: np.ndarray, photographs: int = 150, window: int | None = None) -> Drift:
    drift = Drift(photographs, window)
    for part in np.array_split(values, 7):
        drift.add(part)
    return drift


def test_uniform_values_are_rarely_a_finding() -> None:
    rng = np.random.default_rng(0)
    small = [drift_of(rng.uniform(size=200), 10**6).p_value < 0.05 for _ in range(400)]
    assert 0.02 < np.mean(small) < 0.09


def test_a_shift_that_no_single_image_shows_is_found() -> None:
    values = np.random.default_rng(1).uniform(size=400) ** 1.6
    assert (values < 0.01).mean() < 0.08
    assert drift_of(values).p_value < SMALL_P


def test_the_test_is_that_of_kolmogorov_and_smirnov() -> None:
    values = np.random.default_rng(2).beta(1.2, 1, 300)
    drift = drift_of(values, 10**9)
    wanted = stats.kstest(values, "uniform")
    assert drift.distance == pytest.approx(wanted.statistic, abs=2e-3)
    assert drift.p_value == pytest.approx(wanted.pvalue, abs=0.02)


def test_only_the_last_values_count_in_a_window() -> None:
    rng = np.random.default_rng(3)
    last = rng.uniform(size=70)
    sliding = drift_of(np.concatenate([0.1 * rng.uniform(size=500), last]), window=70)
    fresh = drift_of(last)
    assert (sliding.count, sliding.distance, sliding.p_value) == (70, fresh.distance, fresh.p_value)
    with pytest.raises(InputError, match="window"):
        Drift(150, 0)


def test_images_that_cannot_be_judged_do_not_count() -> None:
    drift = Drift(100)
    assert np.isnan(drift.p_value)
    drift.add([np.nan, 0.0, 1.0, 0.5])
    assert drift.count == 3
