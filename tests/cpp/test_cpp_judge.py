"""Calibrations and verdicts of the C++ runtime are Python's: what it refuses, typicality, ranking and rejection."""

import json
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from c_library import JUDGES, NO_SAMPLE, OTHERWISE, WITHOUT_CALIBRATION, CModel, Result, refused
from calibration_cases import EDITED, IMPOSSIBLE, changed
from cpp_build import model
from numpy.typing import NDArray
from test_cpp_results import check_equal
from tiny import calibrated_pipe as pipe
from tiny import photograph

from caflow_runtime.batching.draw_options import Otherwise
from caflow_runtime.flow.tiles import Tiling
from caflow_runtime.ood.calibration import NAME, Calibration, read_calibration, write_calibration
from caflow_runtime.ood.typicality import Typicality, reason
from caflow_runtime.pipeline.choice import Untypical
from caflow_runtime.pipeline.pipeline import Pipeline, load

__all__ = ["model", "pipe"]  # fixtures

SAME = 1e-3
"""Tolerance of typicalities. They are ranks of values that are derived from likelihoods, which agree to about 1e-6."""

pytestmark = pytest.mark.usefixtures("built_cpp")


@pytest.fixture(scope="module")
def without_grey(calibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy of the bundle whose calibration covers neither grey nor large images."""
    folder = Path(shutil.copytree(calibrated, tmp_path_factory.mktemp("without-grey") / "model.caflow"))
    found: Any = read_calibration(folder)

    def narrowed(typicality_model: Any) -> Any:
        (group,) = typicality_model.coloured.groups
        group = msgspec.structs.replace(group, name="small", sizes=[0.0, 12.0])
        return msgspec.structs.replace(
            typicality_model, coloured=msgspec.structs.replace(typicality_model.coloured, groups=[group]), grey=None
        )

    samples = [narrowed(typicality_model) for typicality_model in found.samples]
    write_calibration(folder, msgspec.structs.replace(found, truth=narrowed(found.truth), samples=samples))
    return folder


def pairs(photographs: Path) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """Return targets and conditions: photographs (one grey, one blurred), an image of noise, a larger photograph."""
    targets = [photograph(photographs, number, 32, 48) for number in (1, 3, 8, 5)]
    targets[1] = np.repeat(cv2.cvtColor(targets[1], cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    targets[2] = cv2.GaussianBlur(targets[2], (0, 0), 2).astype(np.uint8)
    targets.append(np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8))
    targets.append(photograph(photographs, 4, 84, 100))
    conditions = [cv2.resize(target, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA) for target in targets]
    return targets, [condition.astype(np.uint8) for condition in conditions]


def check_typicality(result: Result, value: float, typical: Typicality) -> None:
    """Compare a result with Python's.

    Arguments:
        value: typicality in the result.
        typical: Python's typicality of the same image.
    """
    assert value == pytest.approx(float(typical.value), abs=SAME, nan_ok=True)
    if result.level_residuals is None:
        assert np.isnan(typical.residuals).all()
        return
    np.testing.assert_allclose(result.level_residuals, typical.residuals, atol=1e-3)
    np.testing.assert_allclose(result.level_typicality, typical.per_level, atol=SAME)


def check_typicalities(result: Result, drawn: Any, place: tuple[int, ...], tolerance: float) -> None:
    """Compare the typicalities of a result with those at a place of what Python has drawn. None is NaN in C++."""
    for name in ("sample_typicality", "image_typicality"):
        typical = getattr(drawn, name)
        expected = np.nan if typical is None else typical.value[place]
        assert getattr(result, name) == pytest.approx(expected, abs=tolerance, nan_ok=True)


@pytest.mark.parametrize("alpha", [0.02, 0.5])
@pytest.mark.parametrize("settings", [{}, {"pixel_budget": 48 * 48, "overlap": 8}], ids=["whole", "tiles"])
def test_cpp_judges_images_as_python_does(
    calibrated: Path, photographs: Path, settings: dict[str, Any], alpha: float
) -> None:
    targets, conditions = pairs(photographs)
    with load(calibrated, backend="cpu", tiling=Tiling(**settings)) as pipe, CModel(calibrated, **settings) as model:
        assert (len(pipe.tiles(conditions[-1])) > 4) == bool(settings)
        score: Any = pipe.score(targets, conditions)
        judged, plain = model.score(targets, conditions, alpha), model.score(targets, conditions)
    for k, result in enumerate(judged):
        typical = score.image_typicality.of(k)
        check_typicality(result, result.image_typicality, typical)
        assert np.isnan(result.sample_typicality)
        is_accepted = bool(typical.accept(alpha))
        assert result.outcome == ("accepted" if is_accepted else "rejected")
        assert result.reason == (None if is_accepted else reason(typical))
    assert {result.outcome for result in judged} == {"accepted", "rejected"}
    assert {result.outcome for result in plain} == {"unjudged"}
    np.testing.assert_allclose([result.image_typicality for result in plain], score.image_typicality.value, atol=SAME)


def test_cpp_does_not_judge_images_unlike_the_calibration(without_grey: Path, photographs: Path) -> None:
    targets, conditions = pairs(photographs)
    with load(without_grey, backend="cpu") as pipe, CModel(without_grey) as model:
        typical: Any = pipe.score(targets, conditions).image_typicality
        judged = model.score(targets, conditions, 0.02)
        for k, result in enumerate(judged):
            check_typicality(result, result.image_typicality, typical.of(k))
            if result.outcome == "unjudged":
                assert result.reason == reason(typical.of(k))
        assert [k for k, result in enumerate(judged) if result.outcome == "unjudged"] == [1, 5]
        for judge, rank in product(("sample", "image"), ("likelihood", "typical")):
            options: Any = {"n": 2, "rank": rank, "min_typicality": 0.02, "judge": judge}
            best, results = pipe.best_of(conditions, **options), model.best_of(conditions, **options)
            assert [result.outcome for result in results] == best.outcome
            assert [result.sample for result in results] == list(best.sample)
            assert best.outcome[1] == best.outcome[5] == "unjudged"


@pytest.mark.parametrize("judge", ["sample", "image"])
@pytest.mark.parametrize(
    "options",
    [
        {"min_typicality": 0.05, "redraws": 20},
        {"min_typicality": 0.6, "redraws": 5, "rank": "typical"},
        {"min_typicality": 0.88, "redraws": 6},
        {"min_typicality": 0.97, "redraws": 3, "otherwise": "bicubic"},
        {"min_typicality": 0.97, "redraws": 0, "rank": "consistency"},
        {"min_typicality": 0.6, "redraws": 4, "consistent": True},
    ],
)
def test_cpp_chooses_the_samples_that_python_chooses(
    model: CModel, pipe: Pipeline, photographs: Path, judge: str, options: dict[str, Any]
) -> None:
    conditions = pairs(photographs)[1][:5]
    options = {"n": 3, "seed": 1, "judge": judge, **options}
    best: Any = pipe.best_of(conditions, **options)
    for k, result in enumerate(model.best_of(conditions, **options)):
        assert (result.outcome, result.rejected) == (best.outcome[k], best.rejected[k])
        assert result.sample == (NO_SAMPLE if best.sample[k] < 0 else best.sample[k])
        assert (result.reason is None) == (result.outcome in ("accepted", "bicubic"))
        difference = np.abs(result.rgb.astype(int) - best.images[k])
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01
        if difference.any():
            continue
        np.testing.assert_allclose(result.per_level, best.per_level[k], rtol=1e-5, atol=1e-2)
        check_typicalities(result, best, (k,), SAME)


@pytest.mark.parametrize("judge", ["sample", "image"])
def test_cpp_fails_if_all_samples_are_untypical_and_an_error_is_requested(
    model: CModel, pipe: Pipeline, photographs: Path, judge: Any
) -> None:
    conditions = pairs(photographs)[1][:1]
    untypical = r"images\[0\]: all 4 samples are untypical"
    options: Any = {"n": 3, "min_typicality": 0.98, "redraws": 1, "otherwise": "drop", "judge": judge}
    with pytest.raises(Untypical, match=untypical):
        pipe.best_of(conditions, **options)
    with refused("untypical", untypical):
        model.best_of(conditions, **options)


@pytest.mark.parametrize("options", [{}, {"consistent": True}, {"temperature": 0.7}])
def test_cpp_returns_the_samples_of_python(
    model: CModel, pipe: Pipeline, photographs: Path, options: dict[str, Any]
) -> None:
    """In their order, with their typicality. Images of consistent samples are compared in test_cpp_results.py."""
    conditions = pairs(photographs)[1][:2]
    samples = pipe.sample(conditions, n=5, **options)
    for k, result in enumerate(model.sample(conditions, n=5, **options)):
        place = divmod(k, 5)
        assert result.sample == samples.sample[place]
        if "consistent" not in options:
            check_equal(result, samples.images[place[0]][place[1]], samples.per_level[place])
        check_typicalities(result, samples, place, 0.02)


@pytest.mark.parametrize("replaces", [False, True])
def test_cpp_judges_frames_as_python_does(model: CModel, pipe: Pipeline, photographs: Path, replaces: bool) -> None:
    frames = pairs(photographs)[1][:5]
    otherwise: Otherwise = "bicubic" if replaces else "keep"
    expected = list(pipe.stream(frames, n=2, rank="typical", min_typicality=0.3, otherwise=otherwise))
    results = model.stream(frames, n=2, rank="typical", min_typicality=0.3, otherwise=OTHERWISE[otherwise])
    outcomes = set()
    for frame, result in zip(expected, results, strict=True):
        assert (result.sample, result.starts_scene) == (frame.sample, frame.starts_scene)
        assert result.sample_typicality == pytest.approx(frame.sample_typicality, abs=SAME)
        assert result.outcome == ("accepted" if not frame.untypical else "bicubic" if replaces else "rejected")
        assert np.abs(result.rgb.astype(int) - frame.image).max() <= 1
        outcomes.add(result.outcome)
    assert len(outcomes) == 2


def test_cpp_refuses_requests_that_the_calibration_does_not_support(
    model: CModel, uncalibrated: Path, photographs: Path
) -> None:
    targets, conditions = ([image[0]] for image in pairs(photographs))
    with CModel(uncalibrated) as plain:
        for unknown in ({"rank": "typical"}, {"min_typicality": 0.1}):
            with refused("input", "is not calibrated: run caflow calibrate"):
                plain.best_of(conditions, **unknown)
        with refused("input", "is not calibrated"):
            plain.score(targets, conditions, 0.1)
        assert np.isnan(plain.score(targets, conditions)[0].image_typicality)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"min_typicality": 1e-6}, "In the smallest group"),
        ({"min_typicality": float("nan")}, "min_typicality"),
        ({"min_typicality": 0.1, "keep": [10, 5]}, "keep"),
        ({"min_typicality": 0.1, "temperature": 0.33}, r"for the temperatures 0\.8; got 0\.33"),
        ({"rank": "typical", "temperature": [0.8, 0.7]}, "one temperature for all levels"),
        ({"judge": 2}, "judge"),
        ({"consistent": 2}, "consistent"),
    ]
    for options, message in wrong:
        with refused("input", message):
            model.best_of(conditions, **options)
    with refused("input", "caflow_best_of"):
        model.sample(conditions, min_typicality=0.1)
    with refused("input", "min_typicality"):
        model.score(targets, conditions, 0.0)
    of_streams: Any = ({"consistent": 1}, {"keep": [10, 5]}, {"min_typicality": 0.1, "judge": JUDGES["image"]})
    for options in of_streams:
        with refused("input", "keep, consistent, judge"):
            next(model.stream(conditions, **options))


@pytest.mark.parametrize(("path", "value"), IMPOSSIBLE + EDITED)
def test_cpp_refuses_the_calibrations_that_python_refuses(copied_calibrated: Path, path: str, value: Any) -> None:
    bundle = copied_calibrated
    (bundle / NAME).write_text(json.dumps(changed(json.loads((bundle / NAME).read_text()), path, value)))
    with refused("bundle", rf"{NAME}.*: run caflow calibrate again"):
        CModel(bundle)
    CModel(bundle, flags=WITHOUT_CALIBRATION).close()


def shortest(text: str) -> float | int:
    """Return a number as other programs may write it: 1 instead of 1.0."""
    number = float(text)
    is_whole = number.is_integer() and 0 < abs(number) < 2**53
    return int(number) if is_whole else number


def test_the_hash_of_a_calibration_does_not_depend_on_how_numbers_are_written(copied_calibrated: Path) -> None:
    """The checksum of a calibration is a hash of its values, not of its text, in both readers."""
    bundle = copied_calibrated
    found: Any = read_calibration(bundle)
    unusual = [1e-5, 1.5e-7, -0.0, 5e-324, 1e16, 1.2345e22, 123456789012345.0, 0.1, 1e30, 2.0]
    coloured = found.truth.coloured
    mean = [[*unusual, *coloured.mean[0][len(unusual) :]], *coloured.mean[1:]]
    truth = msgspec.structs.replace(found.truth, coloured=msgspec.structs.replace(coloured, mean=mean))
    canary = msgspec.structs.replace(found.canary, backend='"\\\n\té €')
    write_calibration(bundle, msgspec.structs.replace(found, truth=truth, canary=canary))
    CModel(bundle).close()
    fields = json.loads((bundle / NAME).read_text(), parse_float=shortest)
    (bundle / NAME).write_text(json.dumps(dict(reversed(fields.items())), indent=2))
    assert isinstance(read_calibration(bundle), Calibration)
    CModel(bundle).close()
