"""Results of a calibrated model: their typicality, and samples and frames that are rejected for it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import CALIBRATED_TEMPERATURE, crops_of, photograph
from tiny import calibrated_pipe as pipe

from caflow_deploy.images.photographs import photographs_in
from caflow_runtime.errors import InputError
from caflow_runtime.ood.consistency import enlarge
from caflow_runtime.ood.typicality import covariates, distance_of, typicality
from caflow_runtime.pipeline.choice import Untypical
from caflow_runtime.pipeline.pipeline import Pipeline, load
from caflow_runtime.pipeline.results import REJECTED

__all__ = ["pipe"]  # a fixture
TEMPERATURE = CALIBRATED_TEMPERATURE


@pytest.fixture(scope="module")
def built_in() -> Pipeline:
    return load(backend="cpu")


def test_results_have_the_typicality_of_the_calibration(pipe: Pipeline, photographs: Path) -> None:
    condition = photograph(photographs, 2, 8, 12)
    best: Any = pipe.best_of(condition, n=3, temperature=TEMPERATURE)
    drawn: Any = pipe.sample(condition, n=3, temperature=TEMPERATURE)
    assert drawn.sample_typicality.value.shape == (1, 3)
    assert drawn.sample_typicality.per_level.shape == (1, 3, 2)
    np.testing.assert_allclose(best.sample_typicality.value[0], drawn.sample_typicality.value[0, 0])
    typicality_model = pipe.calibration.typicality_model(TEMPERATURE)
    expected = typicality(
        typicality_model, drawn.bits_per_dim_per_level[0], np.stack([covariates(condition, pipe.manifest.model)] * 3)
    )
    np.testing.assert_allclose(drawn.sample_typicality.value[0], expected.value)
    assert pipe.best_of(condition, n=1, temperature=0.123).sample_typicality is None
    assert pipe.score(best.images, condition).image_typicality is not None
    consistent: Any = pipe.best_of(condition, n=1, temperature=TEMPERATURE, consistent=True)
    again: Any = pipe.score(consistent.images, condition).image_typicality
    np.testing.assert_array_equal(consistent.image_typicality.value, again.value)


def test_the_most_typical_sample_is_the_closest_to_the_middle(pipe: Pipeline, photographs: Path) -> None:
    condition = photograph(photographs, 3, 12, 8)
    drawn = pipe.sample(condition, n=6, temperature=TEMPERATURE, rank="typical")
    typicality_model, given = pipe.calibration.typicality_model(TEMPERATURE), covariates(condition, pipe.manifest.model)
    distances = [distance_of(typicality_model, bits, given) for bits in drawn.bits_per_dim_per_level[0]]
    assert (np.diff(np.array(distances)) > 0).all()
    best = pipe.best_of(condition, n=6, temperature=TEMPERATURE, rank="typical")
    assert best.sample[0] == drawn.sample[0, 0]


def test_untypical_samples_are_drawn_again(pipe: Pipeline, photographs: Path) -> None:
    conditions = [photograph(photographs, k, 8, 8) for k in range(4)]
    every: Any = pipe.sample(conditions, n=12, temperature=TEMPERATURE)
    alpha = float(np.median(every.sample_typicality.value))
    best: Any = pipe.best_of(conditions, n=2, temperature=TEMPERATURE, min_typicality=alpha, redraws=10)
    assert best.rejected.sum() > 0
    for k in range(4):
        typical = dict(zip(every.sample[k], every.sample_typicality.value[k] >= alpha, strict=True))
        likelihood = dict(zip(every.sample[k], every.log_likelihood[k], strict=True))
        accepted = [number for number in range(12) if typical[number]][:2]
        seen = accepted[-1] + 1 if len(accepted) == 2 else 12
        if accepted:
            assert best.outcome[k] == "accepted"
            assert best.sample[k] == max(accepted, key=lambda number: likelihood[number])
            assert best.sample_typicality.value[k] >= alpha
        else:
            assert best.outcome[k] == "rejected"
            assert best.sample[k] == max(range(12), key=lambda number: likelihood[number])
        assert len(best.bits_per_dim_drawn[k]) == seen
        assert best.rejected[k] == seen - len(accepted)
        alone = pipe.best_of(conditions[k], n=2, temperature=TEMPERATURE, min_typicality=alpha, redraws=10)
        np.testing.assert_array_equal(alone.images[0], best.images[k])


def test_rejected_samples_give_an_error_the_bicubic_image_or_the_best_one(pipe: Pipeline, photographs: Path) -> None:
    condition = photograph(photographs, 0, 8, 8)
    value = float(pipe.sample(condition, n=3, temperature=TEMPERATURE).sample_typicality.value.max())  # type: ignore[union-attr]
    alpha = (1 + value) / 2
    arguments: dict[str, Any] = {"n": 2, "temperature": TEMPERATURE}
    with pytest.raises(Untypical, match=r"images\[0\]: all 3 samples are untypical, with a typicality below"):
        pipe.best_of(condition, **arguments, min_typicality=alpha, redraws=1, otherwise="drop")
    enlarged = pipe.best_of(condition, **arguments, min_typicality=alpha, redraws=1, otherwise="bicubic")
    wanted = np.clip(np.rint(enlarge(condition.astype(np.float32), 4)), 0, 255)
    np.testing.assert_array_equal(enlarged.images[0], wanted)
    assert enlarged.outcome == ["bicubic"]
    assert enlarged.sample[0] == REJECTED
    assert np.isnan(enlarged.log_likelihood[0])
    for changes in ({"rank": "consistency"}, {"consistent": True}):
        again: Any = pipe.best_of(
            condition, **arguments, **changes, min_typicality=alpha, redraws=1, otherwise="bicubic"
        )
        np.testing.assert_array_equal(again.images[0], wanted)
        assert np.isnan(again.log_likelihood[0])
        assert np.isfinite(again.consistency[0])
    best = pipe.best_of(condition, **arguments, min_typicality=alpha, redraws=1)
    plain = pipe.best_of(condition, n=3, temperature=TEMPERATURE)
    assert best.outcome == ["rejected"]
    np.testing.assert_array_equal(best.images, plain.images)


def test_untypical_frames_are_marked_or_replaced(pipe: Pipeline, photographs: Path) -> None:
    frames = [photograph(photographs, 5, 8, 8)] * 2 + [np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)]
    plain = list(pipe.stream(frames, temperature=TEMPERATURE))
    values = [frame.sample_typicality or 0.0 for frame in plain]
    assert not any(frame.untypical for frame in plain)
    least = (values[0] + values[2]) / 2
    marked = list(pipe.stream(frames, temperature=TEMPERATURE, min_typicality=least))
    assert [frame.untypical for frame in marked] == [value < least for value in values]
    assert any(frame.untypical for frame in marked)
    replaced = list(pipe.stream(frames, temperature=TEMPERATURE, min_typicality=least, otherwise="bicubic"))
    for before, after in zip(marked, replaced, strict=True):
        assert (before.image == after.image).all() == (not before.untypical)
        assert before.sample == after.sample
        np.testing.assert_array_equal(before.per_level, after.per_level)


def test_requests_that_the_calibration_does_not_support_are_refused(
    pipe: Pipeline, uncalibrated: Path, photographs: Path
) -> None:
    condition = photograph(photographs, 0, 8, 8)
    with pytest.raises(InputError, match=r"for the temperatures 0\.8; got 0\.7"):
        pipe.best_of(condition, temperature=0.7, rank="typical")
    with pytest.raises(InputError, match="requires one temperature for all levels"):
        pipe.best_of(condition, temperature=(0.7, 0.8), rank="typical")
    with pytest.raises(InputError, match="keep drops samples before they can be judged"):
        pipe.best_of(condition, n=4, keep=(4, 2), min_typicality=0.01)
    with pytest.raises(InputError, match="min_typicality must be a number that is at least 0 and below 1; got 1"):
        pipe.best_of(condition, min_typicality=1)
    with pytest.raises(InputError, match="also give min_typicality"):
        pipe.best_of(condition, otherwise="drop")
    with pytest.raises(InputError, match="sample returns all samples"):
        pipe.sample(condition, min_typicality=0.01)
    with load(uncalibrated, backend="cpu") as plain:
        for arguments in ({"rank": "typical"}, {"min_typicality": 0.01}):
            with pytest.raises(InputError, match="is not calibrated: run caflow calibrate"):
                plain.best_of(condition, temperature=TEMPERATURE, **arguments)
        assert plain.best_of(condition).sample_typicality is None


def test_the_built_in_model_tells_spoilt_photographs_from_others(built_in: Pipeline, photographs: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = [pair for one in photographs_in(photographs) for pair in crops_of(built_in, one, (128,))[:2]]

    def rejected(targets: list[Any]) -> float:
        scored: Any = built_in.score(targets, [pair.condition for pair in pairs])
        return float(1 - scored.image_typicality.accept(0.05).mean())

    targets = [pair.target for pair in pairs]
    large = [np.clip(np.rint(enlarge(p.condition.astype(np.float32), 4)), 0, 255).astype(np.uint8) for p in pairs]
    assert rejected(targets) < 0.2
    assert rejected([np.clip(t + rng.normal(0, 10, t.shape), 0, 255).astype(np.uint8) for t in targets]) > 0.9
    assert rejected(targets[1:] + targets[:1]) > 0.9
    assert rejected(large) > 0.7
