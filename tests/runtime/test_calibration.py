"""Typicality: a stated fraction of usual images is rejected, and spoilt images are recognized."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from tiny import CALIBRATED_SIDES, CALIBRATED_TEMPERATURE, pairs_of_photographs, photograph

from caflow_runtime.errors import InputError, UnreadableImage
from caflow_runtime.jobs import coverage
from caflow_runtime.jobs.calibrate import calibrate
from caflow_runtime.jobs.photographs import CROPS, Pair, pairs_of, photographs_in, with_grey_copies
from caflow_runtime.judge.calibration import NAME, Calibration, WrongCalibration, read_calibration, write_calibration
from caflow_runtime.judge.consistency import enlarge
from caflow_runtime.judge.learning import learn
from caflow_runtime.judge.typicality import Typicality, covariates, distance_of, reason, typicality
from caflow_runtime.pictures.image_files import write_image
from caflow_runtime.pipeline.choice import Untypical
from caflow_runtime.pipeline.pipeline import Pipeline, load
from caflow_runtime.pipeline.results import REJECTED
from caflow_runtime.rows.draw import Reject
from caflow_runtime.strict_json import WrongJson, parse_json

SIDES, TEMPERATURE = CALIBRATED_SIDES, CALIBRATED_TEMPERATURE


@pytest.fixture(scope="module")
def pipe(calibrated: Path) -> Pipeline:
    return load(calibrated, backend="cpu")


@pytest.fixture(scope="module")
def built_in() -> Pipeline:
    return load(backend="cpu")


def drawn_bits(count: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Return random bits per dimension of two levels, and covariates on which their mean and spread depend."""
    given = np.column_stack([rng.uniform(0.1, 6, (count, 3)), rng.choice([12.0, 14.0, 16.0], count)])
    noise = rng.standard_t(5, (count, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    return given[:, :1] * [0.5, -0.2] + 1 + noise * np.exp(0.3 * given[:, :1] - 0.2 * given[:, 3:]), given


def from_uniform(values: Any) -> float:
    """Return the Kolmogorov–Smirnov distance of values from the uniform distribution on 0…1."""
    return float(np.abs(np.sort(values) - (np.arange(len(values)) + 0.5) / len(values)).max())


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_a_share_alpha_of_images_like_those_of_calibration_is_rejected(alpha: float) -> None:
    rng = np.random.default_rng(0)
    bits, given = drawn_bits(2000, rng)
    reference = learn(None, bits, given, np.arange(2000) % 5, levels=2)
    found = typicality(reference, *drawn_bits(20_000, rng))
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
    reference = learn(None, bits, given, np.arange(1000) % 5, levels=2)
    centre = typicality(reference, bits, given).residuals
    typical = np.argsort(np.abs(centre).max(1))[:50]
    for shift in (-3.0, 3.0):
        moved = bits[typical] + [0, shift]
        found = typicality(reference, moved, given[typical])
        assert (found.value < 0.02).all()
        assert (found.per_level[:, 1] < 0.02).all()
        assert (found.per_level[:, 0] > 0.1).all()
        assert (np.sign(found.residuals[:, 1]) == np.sign(shift)).all()


def test_the_reason_names_a_level_only_where_one_is_unusual() -> None:
    assert reason(judged(0.3, -4.2)) == "level 1 is likelier than is typical: 4.2 standard deviations"
    assert reason(judged(2.7, 1.0)) == "level 0 is less likely than is typical: 2.7 standard deviations"
    assert reason(judged(1.6, -1.7)) == "its levels do not fit together: +1.6, -1.7 standard deviations"
    latents = np.zeros(18)
    latents[7] = 3.5
    wanted = "its noise is unusual: the mean square of z[1, 0] is 3.5 standard deviations above the usual"
    assert reason(judged(2.7, 1.0, latents)) == wanted
    assert reason(judged(5.0, 1.0, latents)).startswith("level 0 is less likely")
    assert "the mean square of z[1, 1] is" in reason(judged(2.7, 1.0, latents[:12])), "a model without cross blocks"
    unknown = replace(judged(0.3, -4.2), value=np.array(np.nan), group=np.array("grey"))
    assert reason(unknown) == "the calibration knows no such images: grey"


def judged(coarse: float, fine: float, latents: Any = ()) -> Typicality:
    """Return the typicality of one image with these residuals."""
    residuals = np.array([coarse, fine])
    return Typicality(np.array(0.001), residuals, residuals, np.array(latents), np.array("coloured"))


def test_the_share_holds_in_every_group() -> None:
    """If images are detailed, measures of small ones vary five times as much, which the fit does not model."""
    rng = np.random.default_rng(2)

    def images(count: int) -> tuple[Any, Any]:
        sizes, details = rng.choice([12.0, 14.0, 16.0], count), rng.uniform(1, 6, count)
        given = np.column_stack([details, details, details, sizes])
        tails = rng.standard_t(3, (count, 2)) * np.where(sizes == 12.0, 1.0, 0.2)[:, None]
        return np.where(details[:, None] > 4, tails, np.sign(tails)), given

    bits, given = images(3000)
    reference = learn(None, bits, given, np.arange(3000) % 10, levels=2)
    assert reference.grey is None
    groups = reference.main.groups
    assert [group.name for group in groups] == [
        f"{size}, {detail}" for size in ("small", "medium", "large") for detail in ("plain", "detailed")
    ]
    measured, new = images(12_000)
    found = typicality(reference, measured, new)
    for name in np.unique(found.group):
        rejected = found.value[found.group == name] < 0.1
        assert rejected.mean() == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / 500))
    assert reference.smallest == pytest.approx(1 / (min(group.images for group in groups) + 1))


def test_what_calibration_saw_nothing_like_is_not_judged(pipe: Pipeline, photographs: Path) -> None:
    """A calibration with coloured images only does not judge grey images, because a rejection would mean nothing."""
    condition = photograph(photographs, 5, 8, 12)
    grey = np.asarray(cv2.cvtColor(cv2.cvtColor(condition, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)
    known = pipe.score(np.asarray(grey.repeat(4, 0).repeat(4, 1), np.uint8), grey).image_typicality
    assert known is not None
    assert known.group[0] == "grey"
    assert known.is_judged[0]
    truth = msgspec.structs.replace(pipe.calibration.truth, grey=None)
    measures = np.zeros((2, truth.main.measures))
    found = typicality(truth, measures, np.stack([covariates(one, 4) for one in (condition, grey)]))
    assert found.group.tolist() == ["coloured", "grey"]
    assert found.is_judged.tolist() == [True, False]
    assert not found.accept(0)[1]
    assert np.isnan(found.value[1])


def test_complexity_and_size_are_those_of_the_condition(photographs: Path) -> None:
    sharp = photograph(photographs, 0, 32, 48)
    smooth = cv2.GaussianBlur(sharp, (0, 0), 3).astype(np.uint8)
    flat = np.full_like(sharp, 99)
    complexity = np.array([covariates(image, 4)[:3] for image in (flat, smooth, sharp)])
    assert (complexity[0] == 0).all()
    assert (np.diff(complexity[:, [0, 2]], axis=0) > 0).all()
    assert covariates(sharp, 4)[3] == pytest.approx(np.log2(128 * 192))
    assert np.isfinite(covariates(sharp[:1, :1], 4)).all()


def test_calibrating_again_gives_the_same(pipe: Pipeline, photographs: Path) -> None:
    pairs = with_grey_copies(pipe.manifest.model, pairs_of_photographs(pipe, photographs))
    again = calibrate(pipe, pairs, [TEMPERATURE])
    known = pipe.calibration
    assert known is not None
    # The known calibration was made on another machine, so values are only close.
    for one, other in ((again.truth, known.truth), (again.samples[0], known.samples[0])):
        for kind, known_kind in zip(one.kinds, other.kinds, strict=True):
            np.testing.assert_allclose(kind.bits_per_dim, known_kind.bits_per_dim, rtol=1e-3)
            for group, known_group in zip(kind.groups, known_kind.groups, strict=True):
                np.testing.assert_allclose(group.distances, known_group.distances, rtol=1e-2)
    assert [kind.images for kind in again.truth.kinds] == [13 * len(SIDES) * CROPS, 13 * len(SIDES) * CROPS // 2]
    assert [part.counts for part in again.coverage] == [part.counts for part in known.coverage]
    assert again.photographs == 13


def test_results_say_how_typical_they_are(pipe: Pipeline, photographs: Path) -> None:
    condition = photograph(photographs, 2, 8, 12)
    best = pipe.best_of(condition, n=3, temperature=TEMPERATURE)
    drawn = pipe.sample(condition, n=3, temperature=TEMPERATURE)
    assert best.sample_typicality is not None
    assert drawn.sample_typicality is not None
    assert drawn.sample_typicality.value.shape == (1, 3)
    assert drawn.sample_typicality.per_level.shape == (1, 3, 2)
    np.testing.assert_allclose(best.sample_typicality.value[0], drawn.sample_typicality.value[0, 0])
    reference = pipe.calibration.reference(TEMPERATURE)
    expected = typicality(reference, drawn.bits_per_dim_per_level[0], np.stack([covariates(condition, 4)] * 3))
    np.testing.assert_allclose(drawn.sample_typicality.value[0], expected.value)
    assert pipe.best_of(condition, n=1, temperature=0.123).sample_typicality is None
    assert pipe.score(best.images, condition).image_typicality is not None
    consistent = pipe.best_of(condition, n=1, temperature=TEMPERATURE, consistent=True)
    again = pipe.score(consistent.images, condition).image_typicality
    assert consistent.image_typicality is not None
    assert again is not None
    np.testing.assert_array_equal(consistent.image_typicality.value, again.value)


def test_the_most_typical_sample_is_the_closest_to_the_middle(pipe: Pipeline, photographs: Path) -> None:
    condition = photograph(photographs, 3, 12, 8)
    drawn = pipe.sample(condition, n=6, temperature=TEMPERATURE, rank="typical")
    assert drawn.sample_typicality is not None
    reference, given = pipe.calibration.reference(TEMPERATURE), covariates(condition, 4)
    distances = [distance_of(reference, bits, given) for bits in drawn.bits_per_dim_per_level[0]]
    assert (np.diff(np.array(distances)) > 0).all()
    best = pipe.best_of(condition, n=6, temperature=TEMPERATURE, rank="typical")
    assert best.sample[0] == drawn.sample[0, 0]


def test_untypical_samples_are_drawn_again(pipe: Pipeline, photographs: Path) -> None:
    conditions = [photograph(photographs, k, 8, 8) for k in range(4)]
    every = pipe.sample(conditions, n=12, temperature=TEMPERATURE)
    assert every.sample_typicality is not None
    alpha = float(np.median(every.sample_typicality.value))
    best = pipe.best_of(conditions, n=2, temperature=TEMPERATURE, reject=Reject(alpha, redraws=10))
    assert best.sample_typicality is not None
    assert best.rejected is not None
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
            assert best.outcome[k] == "best"
            assert best.sample[k] == max(range(12), key=lambda number: likelihood[number])
        assert len(best.bits_per_dim_drawn[k]) == seen
        assert best.rejected[k] == seen - len(accepted)
        alone = pipe.best_of(conditions[k], n=2, temperature=TEMPERATURE, reject=Reject(alpha, redraws=10))
        np.testing.assert_array_equal(alone.images[0], best.images[k])


def test_what_is_done_where_all_are_rejected(pipe: Pipeline, photographs: Path) -> None:
    condition = photograph(photographs, 0, 8, 8)
    value = float(pipe.sample(condition, n=3, temperature=TEMPERATURE).sample_typicality.value.max())  # type: ignore[union-attr]
    alpha = (1 + value) / 2
    arguments: dict[str, Any] = {"n": 2, "temperature": TEMPERATURE}
    with pytest.raises(Untypical, match=r"images\[0\]: all 3 samples are untypical, with a typicality below"):
        pipe.best_of(condition, **arguments, reject=Reject(alpha, 1, "error"))
    enlarged = pipe.best_of(condition, **arguments, reject=Reject(alpha, 1, "bicubic"))
    wanted = np.clip(np.rint(enlarge(condition.astype(np.float32), 4)), 0, 255)
    np.testing.assert_array_equal(enlarged.images[0], wanted)
    assert enlarged.outcome == ["bicubic"]
    assert enlarged.sample[0] == REJECTED
    assert np.isnan(enlarged.log_likelihood[0])
    for changes in ({"rank": "consistency"}, {"consistent": True}):
        again = pipe.best_of(condition, **arguments, **changes, reject=Reject(alpha, 1, "bicubic"))
        np.testing.assert_array_equal(again.images[0], wanted)
        assert np.isnan(again.log_likelihood[0])
        assert again.consistency is not None
        assert np.isfinite(again.consistency[0])
    best = pipe.best_of(condition, **arguments, reject=Reject(alpha, 1))
    plain = pipe.best_of(condition, n=3, temperature=TEMPERATURE)
    assert best.outcome == ["best"]
    np.testing.assert_array_equal(best.images, plain.images)


def test_frames_of_less_typicality_are_marked_or_replaced(pipe: Pipeline, photographs: Path) -> None:
    frames = [photograph(photographs, 5, 8, 8)] * 2 + [np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)]
    plain = list(pipe.stream(frames, temperature=TEMPERATURE))
    values = [frame.sample_typicality or 0.0 for frame in plain]
    assert not any(frame.untypical for frame in plain)
    least = (values[0] + values[2]) / 2
    marked = list(pipe.stream(frames, temperature=TEMPERATURE, min_typicality=least))
    assert [frame.untypical for frame in marked] == [value < least for value in values]
    assert any(frame.untypical for frame in marked)
    replaced = list(pipe.stream(frames, temperature=TEMPERATURE, min_typicality=least, replaces=True))
    for before, after in zip(marked, replaced, strict=True):
        assert (before.image == after.image).all() == (not before.untypical)
        assert before.sample == after.sample
        np.testing.assert_array_equal(before.per_level, after.per_level)


def test_what_does_not_fit_is_named(pipe: Pipeline, uncalibrated: Path, photographs: Path) -> None:
    condition = photograph(photographs, 0, 8, 8)
    with pytest.raises(
        InputError, match=r"for the temperatures 0\.8; got 0\.7: use one of them, or run caflow calibrate"
    ):
        pipe.best_of(condition, temperature=0.7, rank="typical")
    with pytest.raises(InputError, match="requires one temperature for all levels"):
        pipe.best_of(condition, temperature=(0.7, 0.8), rank="typical")
    with pytest.raises(InputError, match="keep drops samples before they can be judged"):
        pipe.best_of(condition, n=4, keep=(4, 2), reject=Reject())
    with pytest.raises(InputError, match=r"alpha must be above 0 and below 1; got 0\.0"):
        Reject(0.0)
    with load(uncalibrated, backend="cpu") as plain:
        for arguments in ({"rank": "typical"}, {"reject": Reject()}):
            with pytest.raises(InputError, match="is not calibrated: run caflow calibrate"):
                plain.best_of(condition, temperature=TEMPERATURE, **arguments)
        assert plain.best_of(condition).sample_typicality is None


def test_a_calibration_of_another_bundle_is_refused(calibrated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other.caflow"
    shutil.copytree(calibrated, folder)
    manifest = folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b" ")
    with pytest.raises(WrongCalibration, match=r"made for a different manifest\.json: run caflow calibrate again"):
        load(folder, backend="cpu")
    shutil.copy(calibrated / "manifest.json", manifest)
    load(folder, backend="cpu").close()
    contents: dict[str, Any] = msgspec.json.decode((folder / NAME).read_bytes())
    for change, message in (({"format_version": 1}, "version 2; got"), ({"extra": 1}, "unknown field `extra`")):
        (folder / NAME).write_bytes(msgspec.json.encode(contents | change))
        with pytest.raises(WrongCalibration, match=message):
            load(folder, backend="cpu")
    (folder / NAME).write_bytes(b"{")
    with pytest.raises(WrongCalibration, match="run caflow calibrate again"):
        load(folder, backend="cpu")


Change = tuple[str, Any]
WRONG: list[Change] = [
    ("photographs", 0),
    ("photographs", 10**30),
    ("photographs", 157),  # more photographs than images
    ("samples", "twice"),
    ("samples.0.temperature", None),
    ("samples.0.temperature", -0.5),
    ("samples.0.coloured.images", -104),
    ("truth.temperature", 0.8),
    ("truth.coloured.images", -104),
    ("truth.coloured.images", 0),
    ("truth.coloured.images", 103),  # differs from the number of quantiles
    ("truth.coloured.images", 2.5),
    ("truth.coloured.lowest", []),
    ("truth.coloured.lowest.0", 65),
    ("truth.coloured.lowest.0", 1e308),
    ("truth.coloured.highest.0", 0),  # below lowest
    ("truth.coloured.centre.3", -1),
    ("truth.coloured.centre", [1, 2, 3]),
    ("truth.coloured.scale.0", 0),
    ("truth.coloured.scale.0", -1),
    ("truth.coloured.scale.0", 1e-300),
    ("truth.coloured.mean", []),
    ("truth.coloured.mean.0", [0.0] * 11),
    ("truth.coloured.mean.0.0", 1e300),
    ("truth.coloured.log_spread.0.0", 1000),
    ("truth.coloured.log_spread.0.0", -1000),
    ("truth.coloured.log_spread", [[0.0] * 6]),
    ("truth.coloured.precision", [[1.0]]),
    ("truth.coloured.precision", [[1.0, 0.0], [0.0]]),
    ("truth.coloured.precision", [[1.0, 0.5], [0.0, 1.0]]),  # not symmetric
    ("truth.coloured.precision", [[1.0, 2.0], [2.0, 1.0]]),  # causes negative distances
    ("truth.coloured.precision", [[-1.0, 0.0], [0.0, 1.0]]),
    ("truth.coloured.precision", [[0.0, 0.0], [0.0, 0.0]]),
    ("truth.coloured.groups.0.distances", [1.0]),
    ("truth.coloured.groups.0.distances.0", -1),
    ("truth.coloured.groups.0.distances.5", 0),  # not ascending
    ("truth.coloured.groups.0.images", 103),
    ("truth.coloured.groups.0.sizes", [13.0, 13.0]),
    ("truth.coloured.groups", []),
    ("truth.grey.groups", "twice"),
    ("truth.coloured.precision.0.1", 1e6),
    ("coverage.0.counts", [0, 0]),
    ("coverage.0.quantity", "median"),
    ("truth.coloured.residuals.1.5", 1e3),
    ("truth.coloured.residuals.0.3", None),
    ("truth.coloured.residuals", [[0.0] * 104]),
    ("truth.coloured.bits_per_dim.5", -1e3),
    ("truth.coloured.bits_per_dim_per_level.1.5", 1e3),
    ("canary.log_likelihood", 0),
    ("canary.log_likelihood", 1e300),
]


def changed(contents: Any, path: list[str], value: Any) -> Any:
    """Return a copy of JSON values with another value at a path. The value "twice" doubles a list."""
    if not path:
        return contents * 2 if value == "twice" else value
    key: Any = int(path[0]) if isinstance(contents, list) else path[0]
    copy = contents.copy()
    copy[key] = changed(contents[key], path[1:], value)
    return copy


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_no_number_of_a_calibration_may_be_impossible(calibrated: Path, tmp_path: Path, path: str, value: Any) -> None:
    """Otherwise a negative number of images would change verdicts, and a scale of zero would make them NaN."""
    (tmp_path / "manifest.json").write_bytes((calibrated / "manifest.json").read_bytes())
    contents = msgspec.json.decode((calibrated / NAME).read_bytes())
    (tmp_path / NAME).write_bytes(msgspec.json.encode(contents))
    assert read_calibration(tmp_path)
    text = msgspec.json.encode(changed(contents, path.split("."), value))
    with pytest.raises(WrongJson):
        parse_json(text, Calibration)
    (tmp_path / NAME).write_bytes(text)
    with pytest.raises(WrongCalibration, match="run caflow calibrate again"):
        read_calibration(tmp_path)


@pytest.mark.parametrize(
    "path", ["truth.coloured.mean.0.0", "samples.0.coloured.bits_per_dim.0", "photographs", "canary.log_likelihood"]
)
def test_a_calibration_is_what_was_written(calibrated: Path, tmp_path: Path, path: str) -> None:
    """A changed digit would change verdicts unnoticed, so a calibration contains a hash of its values."""
    (tmp_path / "manifest.json").write_bytes((calibrated / "manifest.json").read_bytes())
    contents: Any = msgspec.json.decode((calibrated / NAME).read_bytes())
    value: Any = contents
    for key in path.split("."):
        value = value[int(key) if isinstance(value, list) else key]
    (tmp_path / NAME).write_bytes(msgspec.json.format(msgspec.json.encode(contents), indent=4))
    assert read_calibration(tmp_path)
    other = value - 1
    (tmp_path / NAME).write_bytes(msgspec.json.encode(changed(contents, path.split("."), other)))
    with pytest.raises(WrongCalibration, match="run caflow calibrate again"):
        read_calibration(tmp_path)


def test_a_calibration_is_of_the_models_levels(calibrated: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes((calibrated / "manifest.json").read_bytes())
    contents = msgspec.json.decode((calibrated / NAME).read_bytes())
    for reference in (contents["truth"], *contents["samples"]):
        for kind in (reference["coloured"], reference["grey"]):
            for name in ("mean", "log_spread", "residuals", "bits_per_dim_per_level"):
                kind[name] = kind[name][:1]
            kind["precision"] = [[1.0]]
    write_calibration(tmp_path, msgspec.convert(contents, Calibration))
    wanted = "expected 2 levels and 20 measures, as in the model; got 1 and 1: run caflow calibrate again"
    with pytest.raises(WrongCalibration, match=wanted):
        read_calibration(tmp_path)


def test_what_cannot_be_read_again_is_not_written(pipe: Pipeline, tmp_path: Path) -> None:
    known = pipe.calibration
    write_calibration(tmp_path, known)
    before = (tmp_path / NAME).read_bytes()
    for wrong in (float("nan"), float("inf"), 1e300):
        canary = msgspec.structs.replace(known.canary, log_likelihood=wrong)
        with pytest.raises(WrongCalibration, match="no usable calibration"):
            write_calibration(tmp_path, msgspec.structs.replace(known, canary=canary))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {NAME: before}


@pytest.mark.parametrize("alpha", [float("nan"), -0.1, 1.1, True, "0.5"])
def test_accepting_takes_a_share(pipe: Pipeline, photographs: Path, alpha: Any) -> None:
    found = pipe.best_of(photograph(photographs, 0, 8, 8), n=1, temperature=TEMPERATURE).sample_typicality
    assert found is not None
    with pytest.raises(InputError, match="alpha must be from 0 to 1"):
        found.accept(alpha)


def test_too_few_photographs_are_refused(pipe: Pipeline, photographs: Path, tmp_path: Path) -> None:
    pairs = pairs_of(photographs_in(photographs)[0], pipe.manifest.model, SIDES)
    with pytest.raises(InputError, match="expected at least 20 crops of at least 2 photographs; got 8 crops of 1"):
        calibrate(pipe, pairs, [TEMPERATURE])
    with pytest.raises(InputError, match="found none"):
        photographs_in(tmp_path)


def test_photographs_of_a_kind_with_too_few_images_do_not_count(pipe: Pipeline, photographs: Path) -> None:
    crops = pairs_of_photographs(pipe, photographs, 2)
    pairs = [replace(pair, photograph=str(k)) for k, pair in enumerate(crops)]
    for k in (0, 7):
        pairs[k] = _grey_copy(pairs[k])
    found = calibrate(pipe, pairs, [TEMPERATURE], measures_coverage=False)
    assert found.truth.grey is None
    assert (found.photographs, found.truth.images) == (24, 24)
    pairs += [replace(_grey_copy(pair), photograph="grey") for pair in pairs[1:19]]  # 20 grey images in all
    found = calibrate(pipe, pairs, [TEMPERATURE], measures_coverage=False)
    assert (found.photographs, found.truth.images) == (27, 44)


def _grey_copy(pair: Pair) -> Pair:
    grey = [np.repeat(image[..., :1], 3, 2) for image in (pair.target, pair.condition)]
    return Pair(pair.photograph, *grey)


def test_what_gives_no_calibration_is_refused(pipe: Pipeline, photographs: Path) -> None:
    pairs = pairs_of_photographs(pipe, photographs, 1)
    with pytest.raises(InputError, match=r"temperatures must be different numbers; got \[0.8, 0.8\]"):
        calibrate(pipe, iter(()), [0.8, 0.8])
    with pytest.raises(InputError, match="at least 20 coloured or 20 grey images are required"):
        calibrate(pipe, [*pairs, *map(_grey_copy, pairs)], [TEMPERATURE])


def test_targets_smaller_than_a_cell_have_no_coverage_of_its_level(pipe: Pipeline, photographs: Path) -> None:
    """The tiny model has cells of 8 and 4 pixels."""
    small, larger = (
        Pair(str(side), photograph(photographs, 0, side, side), photograph(photographs, 0, side // 4, side // 4))
        for side in (4, 8)
    )
    assert coverage.measure(pipe, [small]) == []
    found = coverage.measure(pipe, [small, larger])
    assert [(one.level, one.quantity, one.images) for one in found] == [
        (level, quantity, 1) for level in (0, 1) for quantity in ("mean", "variance")
    ]


def test_pairs_may_be_given(pipe: Pipeline, photographs: Path, tmp_path: Path) -> None:
    target = photograph(photographs, 0, 32, 32)
    condition = photograph(photographs, 1, 8, 8)
    for name, image in (("A", condition), ("B", target)):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / "one.png", image)
    (tmp_path / "A" / "one.png").rename(tmp_path / "A" / "one.bmp")  # paired by the stem, as by caflow filter
    (found,) = photographs_in(tmp_path)
    (pair,) = pairs_of(found, pipe.manifest.model, SIDES)
    np.testing.assert_array_equal(pair.target, target)
    np.testing.assert_array_equal(pair.condition, condition)
    assert pair.photograph == "one.png"


def test_pairs_in_one_subfolder_are_of_one_photograph(pipe: Pipeline, photographs: Path, tmp_path: Path) -> None:
    for name in ("clip/1.png", "clip/2.png", "clip-2/1.png"):
        for side, folder in ((8, "A"), (32, "B")):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, photograph(photographs, 0, side, side))
    (tmp_path / "A" / "alone.png").write_bytes(b"")
    found = photographs_in(tmp_path)
    assert [one.name for one in found] == ["alone.png", "clip", "clip", "clip-2"]  # sorted by path, not by text
    with pytest.raises(UnreadableImage, match=r"alone.png: cannot be read: No such file"):
        pairs_of(found[0], pipe.manifest.model, SIDES)
    assert [pairs_of(one, pipe.manifest.model, SIDES)[0].photograph for one in found[1:]] == ["clip", "clip", "clip-2"]


def test_the_built_in_model_tells_spoilt_photographs_from_others(built_in: Pipeline, photographs: Path) -> None:
    model, rng = built_in.manifest.model, np.random.default_rng(0)
    pairs = [pair for one in photographs_in(photographs) for pair in pairs_of(one, model, (128,))[:2]]

    def rejected(targets: list[Any]) -> float:
        scored = built_in.score(targets, [pair.condition for pair in pairs])
        assert scored.image_typicality is not None
        return float(1 - scored.image_typicality.accept(0.05).mean())

    targets = [pair.target for pair in pairs]
    large = [np.clip(np.rint(enlarge(p.condition.astype(np.float32), 4)), 0, 255).astype(np.uint8) for p in pairs]
    assert rejected(targets) < 0.2
    assert rejected([np.clip(t + rng.normal(0, 10, t.shape), 0, 255).astype(np.uint8) for t in targets]) > 0.9
    assert rejected(targets[1:] + targets[:1]) > 0.9
    assert rejected(large) > 0.7
