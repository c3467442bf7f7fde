"""Test of a whole list of images: chance is rarely a finding, and a shift that no single image shows is found."""

import numpy as np
import pytest
from scipy import stats

from caflow_runtime.ood.whole_list import SMALL_P, WholeList


def of(values: np.ndarray, photographs: int = 150) -> WholeList:
    whole = WholeList(photographs)
    for part in np.array_split(values, 7):
        whole.add(part)
    return whole


def test_uniform_typicalities_are_rarely_a_finding() -> None:
    rng = np.random.default_rng(0)
    small = [of(rng.uniform(size=200), 10**6).p_value < 0.05 for _ in range(400)]
    assert 0.02 < np.mean(small) < 0.09


def test_a_shift_that_no_single_image_shows_is_found() -> None:
    values = np.random.default_rng(1).uniform(size=400) ** 1.6
    assert (values < 0.01).mean() < 0.08
    assert of(values).p_value < SMALL_P


def test_the_test_is_that_of_kolmogorov_and_smirnov() -> None:
    values = np.random.default_rng(2).beta(1.2, 1, 300)
    whole = of(values, 10**9)
    wanted = stats.kstest(values, "uniform")
    assert whole.distance == pytest.approx(wanted.statistic, abs=2e-3)
    assert whole.p_value == pytest.approx(wanted.pvalue, abs=0.02)


def test_images_that_cannot_be_judged_do_not_count() -> None:
    whole = WholeList(100)
    assert np.isnan(whole.p_value)
    whole.add([np.nan, 0.0, 1.0, 0.5])
    assert whole.count == 3
