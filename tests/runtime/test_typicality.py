"""Typicality: a stated fraction of usual images is rejected, and the reason names what is unusual."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from tiny import CALIBRATED_TEMPERATURE, photograph
from tiny import calibrated_pipe as pipe

from caflow_runtime.errors import InputError
from caflow_runtime.ood.learning import learn
from caflow_runtime.ood.typicality import Typicality, covariates, rank, reason, typicality
from caflow_runtime.pipeline.pipeline import Pipeline

__all__ = ["pipe"]  # a fixture
TEMPERATURE = CALIBRATED_TEMPERATURE


def drawn_bits(count: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Return random bits per dimension of two levels, and covariates on which their mean and spread depend."""
    given = np.column_stack([rng.uniform(0.1, 6, (count, 3)), rng.choice([12.0, 14.0, 16.0], count)])
    noise = rng.standard_t(5, (count, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    return given[:, :1] * [0.5, -0.2] + 1 + noise * np.exp(0.3 * given[:, :1] - 0.2 * given[:, 3:]), given


def from_uniform(values: Any) -> float:
    """Return the Kolmogorov–Smirnov distance of values from the uniform distribution on 0…1."""
    return float(np.abs(np.sort(values) - (np.arange(len(values)) + 0.5) / len(values)).max())


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_a_fraction_alpha_of_usual_images_is_rejected(alpha: float) -> None:
    rng = np.random.default_rng(0)
    bits, given = drawn_bits(2000, rng)
    typicality_model = learn(None, bits, given, np.arange(2000) % 5, levels=2)
    found = typicality(typicality_model, *drawn_bits(20_000, rng))
    rejected = int((~found.accept(alpha)).sum())
    # Four standard deviations of a fraction that is estimated from 2,000 images.
    spread = 4 * np.sqrt(alpha * (1 - alpha) / 2000)
    assert abs(rejected / 20_000 - alpha) < spread
    assert from_uniform(found.value) < 0.05
    for level in found.per_level.T:
        assert from_uniform(level) < 0.05


def test_both_directions_are_untypical_and_the_level_is_named() -> None:
    rng = np.random.default_rng(1)
    bits, given = drawn_bits(1000, rng)
    typicality_model = learn(None, bits, given, np.arange(1000) % 5, levels=2)
    centre = typicality(typicality_model, bits, given).residuals
    typical = np.argsort(np.abs(centre).max(1))[:50]
    for shift in (-3.0, 3.0):
        moved = bits[typical] + [0, shift]
        found = typicality(typicality_model, moved, given[typical])
        assert (found.value < 0.02).all()
        assert (found.per_level[:, 1] < 0.02).all()
        assert (found.per_level[:, 0] > 0.1).all()
        assert (np.sign(found.residuals[:, 1]) == np.sign(shift)).all()


def test_a_reason_gives_words_and_the_statistic_behind_them() -> None:
    """The noise of a sample is not examined. The first latents are those of z[0, 0], then z[1, 0] and z[1, 1]."""
    alike, unlike, one_way = np.zeros(18), np.zeros(18), np.zeros(18)
    alike[9:11] = unlike[9:11] = 3.6, 3.5  # neighbours of z[1, 0] are alike, to the right and downwards
    unlike[1] = -3.7  # the mean square of z[0, 0] is more unusual than that
    one_way[9] = 9.0  # neighbours are alike in one direction only, so areas are not
    for found, words, statistic in (
        (judged(0.3, -4.2), "softer", "bits/dim of level 1: -4.2"),
        (judged(1.1, 2.7), "noisier or sharper", "bits/dim of level 1: +2.7"),
        (judged(1.6, -0.7), "unusual structure", "bits/dim of level 0: +1.6"),
        (judged(-4.2, 1.0, alike), "colours or contrast", "to the right of z[1, 0]: +3.6"),
        (judged(-4.2, 1.0, alike[:12]), "colours or contrast", "of z[1, 1]: +3.6"),  # a model without cross blocks
        (judged(-4.2, 1.0, unlike), "softer", "bits/dim of level 0: -4.2"),
        (judged(0.2, 1.0, unlike), "unusual structure", "mean square of z[0, 0]: -3.7"),
        (judged(0.2, 1.0, one_way), "unusual structure", "correlation to the right of z[1, 0]: +9.0"),
    ):
        assert reason(found).startswith(words)
        assert statistic in reason(found)
    assert reason(replace(judged(0.3, -4.2), value=np.array(np.nan), group=np.array("grey"))).endswith(": grey")


def judged(coarse: float, fine: float, latents: Any = ()) -> Typicality:
    """Return the typicality of one image with these residuals."""
    residuals = np.array([coarse, fine])
    return Typicality(np.array(0.001), residuals, residuals, np.array(latents), np.array("coloured"))


def test_a_fraction_alpha_of_usual_images_is_rejected_in_every_group() -> None:
    """If images are detailed, measures of small ones vary five times as much, which the fit does not model."""
    rng = np.random.default_rng(2)

    def images(count: int) -> tuple[Any, Any]:
        sizes, details = rng.choice([12.0, 14.0, 16.0], count), rng.uniform(1, 6, count)
        given = np.column_stack([details, details, details, sizes])
        tails = rng.standard_t(3, (count, 2)) * np.where(sizes == 12.0, 1.0, 0.2)[:, None]
        return np.where(details[:, None] > 4, tails, np.sign(tails)), given

    bits, given = images(3000)
    typicality_model = learn(None, bits, given, np.arange(3000) % 10, levels=2)
    assert typicality_model.grey is None
    groups = typicality_model.main.groups
    assert [group.name for group in groups] == [
        f"{size}, {detail}" for size in ("small", "medium", "large") for detail in ("plain", "detailed")
    ]
    measured, new = images(12_000)
    found = typicality(typicality_model, measured, new)
    for name in np.unique(found.group):
        rejected = found.value[found.group == name] < 0.1
        assert rejected.mean() == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / 500))
    assert typicality_model.smallest == pytest.approx(1 / (min(group.images for group in groups) + 1))


def test_ranks_are_interpolated_between_quantiles() -> None:
    np.testing.assert_allclose(rank(np.array([-1, 0, 0.5, 1, 2, 3]), [0, 1, 2]), [0, 0, 0.25, 0.5, 1, 1])


def test_images_unlike_the_calibration_are_not_judged(pipe: Pipeline, photographs: Path) -> None:
    """A calibration with coloured images only does not judge grey images, because a rejection would mean nothing."""
    condition = photograph(photographs, 5, 8, 12)
    grey = np.asarray(cv2.cvtColor(cv2.cvtColor(condition, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)
    known: Any = pipe.score(np.asarray(grey.repeat(4, 0).repeat(4, 1), np.uint8), grey).image_typicality
    assert known.group[0] == "grey"
    assert known.is_judged[0]
    truth = msgspec.structs.replace(pipe.calibration.truth, grey=None)
    measures = np.zeros((2, truth.main.measures))
    found = typicality(truth, measures, np.stack([covariates(one, pipe.manifest.model) for one in (condition, grey)]))
    assert found.group.tolist() == ["coloured", "grey"]
    assert found.is_judged.tolist() == [True, False]
    assert not found.accept(0)[1]
    assert np.isnan(found.value[1])


@pytest.mark.parametrize("alpha", [float("nan"), -0.1, 1.1, True, "0.5"])
def test_an_alpha_that_is_no_fraction_is_refused(pipe: Pipeline, photographs: Path, alpha: Any) -> None:
    found: Any = pipe.best_of(photograph(photographs, 0, 8, 8), n=1, temperature=TEMPERATURE).sample_typicality
    with pytest.raises(InputError, match="min_typicality must be from 0 to 1"):
        found.accept(alpha)
