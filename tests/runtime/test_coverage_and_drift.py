"""Coverage: ranks of the truth are uniform if it varies like the samples. Drift: shifts are found, chance is not."""

import numpy as np
import pytest
from scipy import stats

from caflow_runtime.errors import InputError
from caflow_runtime.ood.coverage import Coverage, quantity_of, rank_of
from caflow_runtime.ood.drift import SMALL_P, Drift


def drift_of(values: np.ndarray, photographs: int = 150, window: int | None = None) -> Drift:
    drift = Drift(photographs, window)
    for part in np.array_split(values, 7):
        drift.add(part)
    return drift


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


def coverage(spread: float) -> Coverage:
    """Return the coverage of 4,000 truths with a spread of 1, each among 19 samples with another spread."""
    rng = np.random.default_rng(0)
    ranks = [rank_of(float(rng.normal()), rng.normal(0, spread, 19), rng) for _ in range(4000)]
    return Coverage(0, "mean", 1.0, np.bincount(ranks, minlength=20).tolist())


def test_the_fraction_of_truths_inside_falls_with_the_spread_of_the_samples() -> None:
    assert coverage(1.0).expected == pytest.approx(0.9)
    assert coverage(1.0).inside == pytest.approx(0.9, abs=0.02)
    assert coverage(0.5).inside < 0.75
    assert coverage(2.0).inside > 0.97


def test_equal_values_are_ranked_by_chance() -> None:
    rng = np.random.default_rng(1)
    ranks = [rank_of(3.0, np.full(4, 3.0), rng) for _ in range(2000)]
    assert np.bincount(ranks).min() > 300


def test_quantities_of_a_block_are_its_mean_and_its_variance() -> None:
    greys = np.random.default_rng(2).uniform(0, 255, (3, 8, 8))
    block = greys[:, 4:6, 2:4]
    np.testing.assert_allclose(quantity_of(greys, "variance", 2, False, (2, 1)), block.var((1, 2)))
    np.testing.assert_allclose(quantity_of(greys, "mean", 2, True, (2, 1)), block.mean((1, 2)))
    around = greys[:, 4:8, 0:4].mean((1, 2))
    np.testing.assert_allclose(quantity_of(greys, "mean", 2, False, (2, 1)), block.mean((1, 2)) - around)
