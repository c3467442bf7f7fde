"""Coverage: ranks of the truth are uniform if it varies like the samples, and gather at both ends if it varies more."""

import numpy as np
import pytest

from caflow_runtime.ood.coverage import Coverage, quantity_of, rank_of


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
