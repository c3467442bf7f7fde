"""Drift: PSI and KS of a window against formulas on all values, and their size by chance."""

import math

import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray
from scipy import stats

from caflow_runtime.errors import InputError
from caflow_runtime.ood.drift import HALF_A_COUNT, Drift
from caflow_runtime.ood.learning import learn
from caflow_runtime.ood.typicality import rank
from caflow_runtime.ood.typicality_model import FEWER_QUANTILES, QUANTILES, CalibrationGroup, TypicalityModel

IMAGES = 5000


def typicality_model_of(total: NDArray[np.float64]) -> TypicalityModel:
    """Learn a reference from images of two levels, whose bits per dimension have these totals."""
    generator = np.random.default_rng(1)
    given = generator.uniform(3, 16, (len(total), 4))
    return learn(None, np.stack([0.75 * total, 0.25 * total], 1), given, np.arange(len(total)) % 5, levels=2)


@pytest.fixture(scope="module")
def calibrated() -> NDArray[np.float64]:
    return np.random.default_rng(0).gamma(9, 0.4, IMAGES)


@pytest.fixture(scope="module")
def typicality_model(calibrated: NDArray[np.float64]) -> TypicalityModel:
    return typicality_model_of(calibrated)


@pytest.mark.parametrize(("shift", "factor"), [(0.0, 1.0), (0.3, 1.0), (0.0, 1.4), (-20.0, 1.0)])
def test_psi_and_ks_equal_their_formulas_on_all_values(
    typicality_model: TypicalityModel, calibrated: NDArray[np.float64], shift: float, factor: float
) -> None:
    values = factor * np.random.default_rng(2).gamma(9, 0.4, 800) + shift
    drift = Drift(typicality_model)
    drift.add(values)
    edges = np.concatenate([[-np.inf], np.quantile(calibrated, np.arange(0.1, 0.95, 0.1)), [np.inf]])
    counts = np.histogram(values, edges)[0] + HALF_A_COUNT
    p, q = counts / counts.sum(), 0.1
    assert drift.psi == pytest.approx(np.sum((p - q) * np.log(p / q)), rel=0.01, abs=1e-3)
    # The calibration stores 1001 quantiles instead of all values.
    assert drift.ks == pytest.approx(stats.ks_2samp(values, calibrated).statistic, abs=2e-3)
    of_reference = stats.ks_1samp(values, lambda x: rank(x, typicality_model.main.bits_per_dim))
    assert drift.ks == pytest.approx(of_reference.statistic, abs=1e-12)
    assert drift.count == 800
    assert math.isfinite(drift.psi)


def test_only_the_values_in_the_window_count(
    typicality_model: TypicalityModel, calibrated: NDArray[np.float64]
) -> None:
    generator = np.random.default_rng(3)
    sliding, fresh = Drift(typicality_model, 700), Drift(typicality_model, 700)
    sliding.add(calibrated + 9)
    assert sliding.psi > 1
    last = generator.choice(calibrated, 700)
    all_at_once = Drift(typicality_model, 700)
    all_at_once.add(np.concatenate([calibrated + 9, last]))
    for part in np.array_split(np.concatenate([calibrated[:50], last]), 13):
        sliding.add(part)
    fresh.add(last.reshape(7, 100))
    for drift in (sliding, all_at_once):
        assert (drift.count, drift.psi, drift.ks) == (700, fresh.psi, fresh.ks)


def with_values(typicality_model: TypicalityModel, values: NDArray[np.float64]) -> TypicalityModel:
    """Return a copy of the reference with the quantiles of these values, which are used as bits per dimension."""

    def quantiles(most: int) -> list[float]:
        known: list[float] = np.quantile(values, np.linspace(0, 1, min(most, len(values)))).tolist()
        return known

    many, few, count = quantiles(QUANTILES), quantiles(FEWER_QUANTILES), len(values)
    group = CalibrationGroup("", [0.0, 64.0], [0.0, 64.0], count, many)
    kind = replace(
        typicality_model.main,
        images=count,
        groups=[group],
        residuals=[few, few],
        bits_per_dim=many,
        bits_per_dim_per_level=[few, few],
    )
    return TypicalityModel(None, kind, None)


def test_values_without_drift_are_rarely_reported(typicality_model: TypicalityModel) -> None:
    """Without drift, means and 99 % quantiles are those in the docstring of `drift.py`.

    This includes small windows and a small calibration.
    """
    generator = np.random.default_rng(4)
    for count, images in ((1000, 4000), (100, 4000), (200, 300)):
        windows = []
        for _ in range(150):
            drift = Drift(with_values(typicality_model, generator.gamma(9, 0.4, images)), count)
            drift.add(generator.gamma(9, 0.4, count))
            windows.append(drift)
        assert np.mean([drift.psi for drift in windows]) == pytest.approx(windows[0].expected_psi, rel=0.15)
        assert np.mean([drift.ks for drift in windows]) == pytest.approx(windows[0].expected_ks, rel=0.15)
        for exceeded in ([d.psi > d.largest_psi for d in windows], [d.ks > d.largest_ks for d in windows]):
            assert sum(exceeded) <= 6  # 1.5 are expected
        assert sum(drift.is_worth_a_look for drift in windows) <= 6


def test_a_shift_is_reported(typicality_model: TypicalityModel) -> None:
    generator = np.random.default_rng(5)
    drift = Drift(typicality_model)
    drift.add(generator.gamma(9, 0.4, 1000))
    assert not drift.is_worth_a_look
    drift.add(generator.gamma(9, 0.4, 1000) + 1)
    assert drift.is_worth_a_look
    assert drift.ks > drift.largest_ks


def test_values_that_are_not_finite_do_not_count(typicality_model: TypicalityModel) -> None:
    drift = Drift(typicality_model)
    assert drift.count == 0
    assert math.isnan(drift.psi)
    assert math.isnan(drift.ks)
    assert not drift.is_worth_a_look
    drift.add([math.nan, math.inf])
    drift.add([])
    assert drift.count == 0
    drift.add(3.5)
    assert drift.count == 1
    assert math.isfinite(drift.psi)
    with pytest.raises(InputError, match="window must be at least 1; got 0"):
        Drift(typicality_model, 0)


def test_a_calibration_with_equal_values_has_a_finite_psi() -> None:
    drift = Drift(typicality_model_of(np.full(40, 2.5)))
    drift.add(np.full(100, 2.5))
    assert drift.psi == pytest.approx(0, abs=0.05)
    drift.add(np.full(1000, 3.5))
    assert 1 < drift.psi < math.inf
