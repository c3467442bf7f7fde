"""Typicality: a stated fraction of usual images is rejected, the reason names what is unusual, and results have it.

Calibrations that were changed, belong to another bundle or contain an impossible number are refused. Statistics of
latents follow their definitions, and tiles have those of the whole image.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from calibration_cases import EDITED, IMPOSSIBLE, changed
from tiny import CALIBRATED_TEMPERATURE, crops_of, photograph
from tiny import calibrated_pipe as pipe

from caflow_deploy.images.photographs import photographs_in
from caflow_runtime.errors import InputError
from caflow_runtime.file_io.strict_json import WrongJson, parse_json
from caflow_runtime.flow.latent_statistics import STATISTICS, name_of, statistics_of, sums_of
from caflow_runtime.flow.tiles import cut
from caflow_runtime.ood.calibration import NAME, Calibration, WrongCalibration, read_calibration, write_calibration
from caflow_runtime.ood.consistency import enlarge
from caflow_runtime.ood.learning import learn
from caflow_runtime.ood.typicality import Typicality, covariates, distance_of, rank, reason, typicality
from caflow_runtime.pipeline.choice import Untypical
from caflow_runtime.pipeline.pipeline import Pipeline, load
from caflow_runtime.pipeline.results import REJECTED

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
    with pytest.raises(InputError, match="sample returns all samples"):
        pipe.sample(condition, min_typicality=0.01)
    with load(uncalibrated, backend="cpu") as plain:
        for arguments in ({"rank": "typical"}, {"min_typicality": 0.01}):
            with pytest.raises(InputError, match="is not calibrated: run caflow calibrate"):
                plain.best_of(condition, temperature=TEMPERATURE, **arguments)
        assert plain.best_of(condition).sample_typicality is None


def test_the_built_in_model_tells_spoilt_photographs_from_others(photographs: Path) -> None:
    built_in, rng = load(backend="cpu"), np.random.default_rng(0)
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


@pytest.mark.parametrize(("path", "value"), IMPOSSIBLE + EDITED)
def test_a_calibration_with_a_wrong_value_is_refused(calibrated: Path, tmp_path: Path, path: str, value: Any) -> None:
    """Otherwise a negative number of images would change verdicts, and a scale of zero would make them NaN. A changed
    digit would change them unnoticed, so a calibration contains a hash of its values."""
    shutil.copy(calibrated / "manifest.json", tmp_path)
    contents = msgspec.json.decode((calibrated / NAME).read_bytes())
    (tmp_path / NAME).write_bytes(msgspec.json.format(msgspec.json.encode(contents), indent=4))
    assert read_calibration(tmp_path)  # the hash is of the values, not of the text
    text = msgspec.json.encode(changed(contents, path, value))
    if (path, value) in IMPOSSIBLE:
        with pytest.raises(WrongJson):
            parse_json(text, Calibration)
    (tmp_path / NAME).write_bytes(text)
    with pytest.raises(WrongCalibration, match="run caflow calibrate again"):
        read_calibration(tmp_path)


def test_a_calibration_that_could_not_be_read_again_is_not_written(pipe: Pipeline, tmp_path: Path) -> None:
    known = pipe.calibration
    write_calibration(tmp_path, known)
    before = (tmp_path / NAME).read_bytes()
    for wrong in (float("nan"), float("inf"), 1e300):
        canary = msgspec.structs.replace(known.canary, log_likelihood=wrong)
        with pytest.raises(WrongCalibration, match="no usable calibration"):
            write_calibration(tmp_path, msgspec.structs.replace(known, canary=canary))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {NAME: before}


CHANNELS = (3, 2)
CELL = 4


def statistics(z: np.ndarray, overlap: int = 0, budget: int = 2**20) -> np.ndarray:
    """Return the statistics of one level's latents, (5, h, w), computed from the sums of all windows."""
    height, width = (CELL * side for side in z.shape[1:])
    sums = None
    for window in cut(height, width, CELL, budget, overlap):
        part = z[:, window.y.start // CELL : window.y.end // CELL, window.x.start // CELL : window.x.end // CELL]
        found = sums_of(part, CHANNELS, window)
        sums = found if sums is None else [one + more for one, more in zip(sums, found, strict=True)]
    assert sums is not None
    return statistics_of(sums)


def test_each_statistic_equals_its_formula() -> None:
    z = np.random.default_rng(0).normal(0.1, 1.3, (5, 9, 11)).astype(np.float32)
    found = statistics(z).reshape(2, len(STATISTICS))
    for block, of_block in ((z[:3].astype(np.float64), found[0]), (z[3:].astype(np.float64), found[1])):
        covariance = np.einsum("ayx,byx->ab", block, block) / (9 * 11)
        others = covariance[~np.eye(len(block), dtype=bool)]
        expected = [
            block.mean(),
            (block**2).mean(),
            (block**4).mean(),
            (block[:, :, 1:] * block[:, :, :-1]).mean(),
            (block[:, 1:] * block[:, :-1]).mean(),
            np.sqrt((others**2).mean()),
        ]
        np.testing.assert_allclose(of_block, expected, rtol=1e-9)
    for blocks in [(0, 0), (1, 0), (1, 1)], [(0, 0), (1, 1)]:
        wanted = [f"{name} of z[{i}, {j}]" for i, j in blocks for name in STATISTICS]
        assert [name_of(number, len(wanted), levels=2) for number in range(len(wanted))] == wanted


def test_latents_of_a_single_cell_have_statistics() -> None:
    found = statistics(np.full((5, 1, 1), 2.0, np.float32)).reshape(2, len(STATISTICS))
    np.testing.assert_allclose(found, [[2, 4, 16, 0, 0, 4]] * 2)


def test_statistics_of_tiles_add_up_to_those_of_the_image() -> None:
    z = np.random.default_rng(1).normal(0, 1, (5, 40, 30)).astype(np.float32)
    whole = statistics(z)
    tiled = statistics(z, overlap=16, budget=64 * 64)
    # The weights of each cell sum to 1. The weights of a pair of cells at a seam do not, so statistics of pairs differ.
    np.testing.assert_allclose(tiled.reshape(2, 6)[:, [0, 1, 2, 5]], whole.reshape(2, 6)[:, [0, 1, 2, 5]], rtol=1e-6)
    np.testing.assert_allclose(tiled, whole, atol=0.02)


def test_smooth_images_have_unusual_latents(pipe: Pipeline, photographs: Path) -> None:
    target = photograph(photographs, 4, 32, 32)
    condition = np.asarray(cv2.resize(target, (8, 8), interpolation=cv2.INTER_AREA), np.uint8)
    smooth = np.asarray(cv2.GaussianBlur(target, (0, 0), 1.5), np.uint8)
    scored: Any = pipe.score([target, smooth], [condition, condition])
    energy = scored.statistics[:, [1, 7, 13]]
    assert (np.abs(energy[0] - energy[1]) > 0.01).any()
    assert pipe.best_of(condition, n=1).statistics is None
    assert scored.measures.shape == (2, 20)
