"""Results of the C++ runtime, equal to Python's: images, likelihoods, tiles, frames, and completed images."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from c_library import NO_SAMPLE, WITH_LIKELIHOOD_MAPS, WITH_PIXELS, CError, CModel, Result, refused
from cpp_build import BUILD, build, model
from numpy.typing import NDArray
from tiny import TINY, edited, photograph
from tiny import calibrated_pipe as pipe

from caflow_runtime.batching.draw_options import Rank
from caflow_runtime.bundle.known_values import known_values
from caflow_runtime.completion.color_hints import Point, draw_hints
from caflow_runtime.errors import InputError
from caflow_runtime.flow.tiles import Tiling
from caflow_runtime.pipeline.pipeline import Pipeline, load

__all__ = ["model", "pipe"]  # fixtures

EQUAL_BYTES = 0.9999
"""Smallest fraction of equal bytes in an image. The other bytes may differ by 1."""
LIKELIHOOD = 1e-6
"""Relative tolerance with the same ONNX Runtime."""

SCORED_APART = 1e-5
"""Relative tolerance for images that ran in different batches, and whose levels nearly cancel each other."""
LIKELIHOOD_ACROSS_VERSIONS = 1e-5

pytestmark = pytest.mark.usefixtures("built_cpp")


def check_equal(
    result: Result, image: NDArray[np.uint8], per_level: NDArray[np.float64], tolerance: float = LIKELIHOOD
) -> None:
    """Check that a result has this likelihood and this image, in which a few bytes may differ by 1."""
    assert result.rgb.shape == image.shape
    difference = np.abs(result.rgb.astype(int) - image)
    assert (difference == 0).mean() >= EQUAL_BYTES
    assert difference.max() <= 1
    np.testing.assert_allclose(result.per_level, per_level, rtol=0, atol=tolerance * abs(per_level.sum()))
    assert result.log_likelihood == pytest.approx(per_level.sum(), rel=tolerance)


@pytest.mark.parametrize(
    "options",
    [
        {"n": 10},
        {"n": 3, "seed": 2**32 - 1, "frame": 5, "temperature": 1.0},
        {"n": 4, "temperature": [1.0, 0.6]},
        {"n": 6, "rank": "consistency"},
        {"n": 8, "keep": [8, 3]},
    ],
)
@pytest.mark.parametrize(("height", "width"), [(16, 16), (37, 53), (1, 3)])
def test_cpp_returns_the_best_sample_of_python(
    model: CModel, pipe: Pipeline, photographs: Path, options: dict[str, Any], height: int, width: int
) -> None:
    conditions = [photograph(photographs, number, height, width) for number in (0, 5)]
    best = pipe.best_of(conditions, **options)
    for k, result in enumerate(model.best_of(conditions, **options, flags=WITH_LIKELIHOOD_MAPS)):
        check_equal(result, best.images[k], best.per_level[k])
        assert (result.image, result.sample) == (k, best.sample[k])
        assert result.bits_per_dim == pytest.approx(best.bits_per_dim[k], rel=LIKELIHOOD)
        np.testing.assert_allclose(result.log_likelihood_map, best.log_likelihood_map[k], rtol=1e-4, atol=1e-3)
        if best.consistency is not None:
            assert result.consistency == pytest.approx(best.consistency[k], abs=1e-6)


def test_cpp_returns_the_scores_of_python(model: CModel, pipe: Pipeline, photographs: Path) -> None:
    targets = [photograph(photographs, number, 4 * 18, 4 * 27) for number in (1, 3)]
    conditions = [cv2.resize(target, (27, 18), interpolation=cv2.INTER_AREA).astype(np.uint8) for target in targets]
    score = pipe.score(targets, conditions)
    assert "dequantize" in {graph.name for graph in pipe.manifest.graphs}
    for k, result in enumerate(model.score(targets, conditions)):
        np.testing.assert_allclose(
            result.per_level, score.per_level[k], rtol=0, atol=LIKELIHOOD * -score.log_likelihood[k]
        )
        assert result.log_likelihood == pytest.approx(score.log_likelihood[k], rel=LIKELIHOOD)


def test_settings_default_to_those_of_the_bundle(copied: Path, photographs: Path) -> None:
    with edited(copied) as manifest:
        manifest["model"]["sampling"] = {"temperature": 0.5, "rank": "consistency"}
    condition = photograph(photographs, 3, 16, 24)
    with load(copied, backend="cpu") as pipe, CModel(copied) as model:
        best: Any = pipe.best_of(condition, n=4)
        (own,) = model.best_of([condition], n=4)
        given = model.best_of([condition], n=4, temperature=0.5, rank="consistency")[0]
        pruned = model.best_of([condition], n=4, keep=[4, 2])[0]
        (frame,) = model.stream([condition], n=4)
    assert own.sample == given.sample == frame.sample == best.sample[0]
    assert own.consistency == given.consistency == pytest.approx(best.consistency[0], abs=1e-6)
    assert own.log_likelihood == pytest.approx(best.log_likelihood[0], rel=LIKELIHOOD)
    assert np.isnan(pruned.consistency)  # samples are dropped by likelihood, so the rank is that as well


@pytest.mark.parametrize(("budget", "overlap"), [(128 * 128, 32), (96 * 96, 16)])
def test_cpp_merges_tiles_as_python_does(photographs: Path, budget: int, overlap: int) -> None:
    condition = photograph(photographs, 4, 77, 61)
    with load(TINY, backend="cpu", tiling=Tiling(budget, overlap)) as pipe:
        assert len(pipe.tiles(condition)) > 4
        best = pipe.best_of(condition, n=3)
        score = pipe.score(best.images, condition)
    with CModel(TINY, pixel_budget=budget, overlap=overlap) as model:
        check_equal(model.best_of([condition], n=3)[0], best.images[0], best.per_level[0])
        scored = model.score([best.images[0]], [condition])[0]
    assert scored.log_likelihood == pytest.approx(score.log_likelihood[0], rel=LIKELIHOOD)


@pytest.mark.parametrize("options", [{}, {"consistent": True}, {"min_typicality": 0.5, "redraws": 2}])
def test_cpp_reports_the_progress_of_python_and_can_be_stopped(photographs: Path, options: dict[str, Any]) -> None:
    conditions = [photograph(photographs, number, height, 30) for number, height in ((4, 40), (2, 16))]
    expected: list[tuple[int, int]] = []
    found: list[tuple[int, int]] = []
    with load(TINY, backend="cpu", tiling=Tiling(128 * 128, 32)) as pipe:
        pipe.best_of(conditions, n=3, show=lambda *numbers: expected.append(numbers), **options)
    with CModel(TINY, pixel_budget=128 * 128, overlap=32) as model:
        model.best_of(conditions, n=3, progress=lambda *numbers: found.append(numbers), **options)
        with refused("stopped", "stopped the call"):
            model.best_of(conditions, n=3, progress=lambda done, _: done > 1, **options)
    assert len(expected) > 3
    assert found == expected


@pytest.mark.parametrize("rank", ["likelihood", "consistency"])
def test_cpp_returns_pythons_consistent_results(model: CModel, pipe: Pipeline, photographs: Path, rank: Any) -> None:
    """Images may differ in a few bytes. So the likelihood is compared with Python's score of the C++ image."""
    conditions = [photograph(photographs, number, height, 30) for number, height in ((2, 20), (4, 17))]
    options: Any = {"rank": rank, "consistent": True}
    best: Any = pipe.best_of(conditions, n=3, **options)
    samples: Any = pipe.sample(conditions[:1], n=2, **options)
    results = model.best_of(conditions, n=3, **options) + model.sample(conditions[:1], n=2, **options)
    expected = [*zip(best.images, best.sample, best.consistency, strict=True)]
    expected += zip(samples.images[0], samples.sample[0], samples.consistency[0], strict=True)
    for result, (image, number, measured) in zip(results, expected, strict=True):
        per_level = pipe.score(result.rgb, conditions[result.image]).per_level[0]
        check_equal(result, image, per_level, SCORED_APART)
        assert result.sample == number
        assert result.consistency == pytest.approx(measured, abs=0.01)
        assert result.consistency > 50


@pytest.mark.parametrize("noise", ["fixed", "fresh", 0.9])
def test_cpp_returns_the_frames_of_python(model: CModel, pipe: Pipeline, photographs: Path, noise: Any) -> None:
    first, second = (photograph(photographs, number, 60, 80) for number in (6, 3))
    frames = [np.ascontiguousarray(first[k : k + 24, 2 * k : 2 * k + 32]) for k in range(6)]
    frames += [np.ascontiguousarray(second[k : k + 24, :32]) for k in range(3)]
    frames += [np.ascontiguousarray(second[k : k + 16, :32]) for k in range(2)]
    options: Any = {"n": 4, "rank": "consistency", "noise": noise}
    results, expected = list(model.stream(frames, **options)), list(pipe.stream(frames, **options))
    assert [k for k, frame in enumerate(expected) if frame.starts_scene] == [0, 6, 9]
    for frame, result in zip(expected, results, strict=True):
        assert (result.image, result.sample, result.starts_scene) == (frame.number, frame.sample, frame.starts_scene)
        check_equal(result, frame.image, frame.per_level)


def test_a_frame_without_a_finite_sample_is_enlarged(model: CModel, pipe: Pipeline, photographs: Path) -> None:
    frames = [photograph(photographs, number, 24, 32) for number in (0, 1)]
    expected = list(pipe.stream(frames, temperature=1e30))
    for frame, result in zip(expected, model.stream(frames, temperature=1e30, flags=WITH_PIXELS), strict=True):
        assert frame.rejected
        assert result.rejected == 10  # the default number of samples
        assert result.sample == NO_SAMPLE
        assert np.isnan(result.log_likelihood)
        assert (result.rgb != frame.image).mean() <= 1 - EQUAL_BYTES
        np.testing.assert_allclose(result.pixels, frame.pixels, atol=1e-3)


@pytest.mark.full
def test_cpp_with_another_version_of_onnx_runtime_returns_the_same(
    cpp_test_data: Path, pipe: Pipeline, photographs: Path
) -> None:
    """The build uses the ONNX Runtime of the system, not that of the Python package."""
    folder = build(
        BUILD.with_name("cpp-system"),
        cpp_test_data,
        "-DCAFLOW_ONNXRUNTIME_LIBRARY=",
        "-DCAFLOW_TESTS=OFF",
        "-DCAFLOW_EXAMPLES=OFF",
    )
    condition = photograph(photographs, 9, 30, 40)
    best = pipe.best_of(condition, n=4)
    with CModel(TINY, folder / "libcaflow.so") as model:
        (result,) = model.best_of([condition], n=4)
    check_equal(result, best.images[0], best.per_level[0], LIKELIHOOD_ACROSS_VERSIONS)


HEIGHT, WIDTH = 150, 210
POINTS = [Point(20, 30, (200, 40, 40)), Point(150, 100, (40, 170, 60))]


@dataclass(frozen=True)
class Runtimes:
    """One model, opened in both languages with the same settings."""

    python: Pipeline
    cpp: CModel

    def prepared(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the condition of an image with two hints, or with a hole at the upper left and one pixel elsewhere."""
        if self.python.manifest.model.color_space == "ycbcr":
            return self.python.prepare(image, hints=draw_hints(HEIGHT, WIDTH, POINTS))
        hole = np.zeros((HEIGHT, WIDTH), bool)
        hole[3:12, 5:20] = hole[40, 30] = True
        return self.python.prepare(image, mask=hole)


@pytest.fixture(params=["whole", "tiles"])
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"pixel_budget": 32 * 32, "overlap": 8} if request.param == "tiles" else {}


@pytest.fixture(params=["masked-inpainting", "color-hints"])
def runtimes(
    request: pytest.FixtureRequest, completing: dict[str, Path], settings: dict[str, Any]
) -> Iterator[Runtimes]:
    folder = completing[request.param]
    with load(folder, backend="cpu", tiling=Tiling(**settings)) as pipe, CModel(folder, **settings) as model:
        yield Runtimes(pipe, model)


@pytest.fixture
def image(photographs: Path) -> NDArray[np.uint8]:
    return photograph(photographs, 0, HEIGHT, WIDTH)


@pytest.mark.parametrize("rank", ["likelihood", "consistency"])
def test_cpp_completes_images_as_python_does(runtimes: Runtimes, image: NDArray[np.uint8], rank: Rank) -> None:
    pipe, condition = runtimes.python, runtimes.prepared(image)
    expected: list[tuple[int, int]] = []
    found: list[tuple[int, int]] = []
    best = pipe.best_of(condition, n=3, rank=rank, show=lambda *numbers: expected.append(numbers))
    (result,) = runtimes.cpp.best_of(
        [condition],
        n=3,
        rank=rank,
        flags=WITH_LIKELIHOOD_MAPS | WITH_PIXELS,
        progress=lambda *numbers: found.append(numbers),
    )
    check_equal(result, best.images[0], best.per_level[0])
    assert result.sample == best.sample[0]
    assert found == expected  # the same windows ran
    known: Any = known_values(condition, pipe.manifest.model)
    np.testing.assert_array_equal(result.rgb[known], condition[..., :3][known])
    np.testing.assert_array_equal(result.pixels[known], condition[..., :3][known] + np.float32(0.5))
    dims = known.size - known.sum()
    assert 0 < dims < known.size
    assert result.bits_per_dim == pytest.approx(-result.log_likelihood / (dims * np.log(2)), rel=1e-12)
    assert result.bits_per_dim == pytest.approx(best.bits_per_dim[0], rel=LIKELIHOOD)
    np.testing.assert_allclose(result.log_likelihood_map, best.log_likelihood_map[0], rtol=1e-4, atol=1e-3)
    if best.consistency is not None:
        assert result.consistency == pytest.approx(best.consistency[0], abs=1e-6)


def test_cpp_scores_completed_images_as_python_does(runtimes: Runtimes, image: NDArray[np.uint8]) -> None:
    pipe, condition = runtimes.python, runtimes.prepared(image)
    target = pipe.target_of(image)
    known: Any = known_values(condition, pipe.manifest.model)
    target = np.where(known, 255 - target, target)  # which does not count
    score = pipe.score(target, condition)
    (result,) = runtimes.cpp.score([target], [condition])
    np.testing.assert_allclose(
        result.per_level, score.per_level[0], rtol=0, atol=LIKELIHOOD * abs(score.log_likelihood[0])
    )
    assert result.bits_per_dim == pytest.approx(score.bits_per_dim[0], rel=LIKELIHOOD)


@pytest.mark.parametrize("settings", [{}], ids=["whole"])
@pytest.mark.parametrize("temperature", [0.8, 1e30])
def test_cpp_completes_frames_as_python_does(runtimes: Runtimes, image: NDArray[np.uint8], temperature: float) -> None:
    """Without a finite sample, the result is the guess."""
    frames = [np.roll(runtimes.prepared(image), shift, 1) for shift in (0, 3)]
    expected = list(runtimes.python.stream(frames, n=2, temperature=temperature))
    found = list(runtimes.cpp.stream(frames, n=2, temperature=temperature))
    for given, frame, result in zip(frames, expected, found, strict=True):
        np.testing.assert_array_equal(result.rgb, frame.image)
        if temperature == 1e30:
            assert result.sample == NO_SAMPLE
            np.testing.assert_array_equal(result.rgb, given[..., :3])
        else:
            assert (result.sample, result.starts_scene) == (frame.sample, frame.starts_scene)
            assert result.log_likelihood == pytest.approx(frame.per_level.sum(), rel=LIKELIHOOD)


@pytest.mark.parametrize("settings", [{}], ids=["whole"])
def test_cpp_refuses_what_python_refuses(runtimes: Runtimes, image: NDArray[np.uint8]) -> None:
    condition = runtimes.prepared(image)
    condition[..., 3] = 128  # the smallest value of what is known
    for complete in (lambda: runtimes.python.best_of(condition), lambda: runtimes.cpp.best_of([condition])):
        with pytest.raises((InputError, CError), match="so there is nothing to draw: give a mask with a hole"):
            complete()
    for wrong in (lambda: runtimes.cpp.best_of([image]), lambda: next(iter(runtimes.cpp.stream([image])))):
        with refused("input", r"must have 4 channels, .*; got 3: Pipeline\.prepare of Python makes them"):
            wrong()
    with refused("input", r"targets\[0\] must have 3 channels, RGB; got 4"):
        runtimes.cpp.score([condition], [condition])
    message = r"conditions\[0\] must have 3 channels, RGB; got 4: leave out an alpha channel"
    with CModel(TINY) as plain, refused("input", message):
        plain.best_of([condition])
