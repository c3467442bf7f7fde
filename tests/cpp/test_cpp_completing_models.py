"""Models that complete images in the C++ runtime: the results of Python for the same prepared conditions."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_library import NO_SAMPLE, WITH_LIKELIHOOD_MAPS, WITH_PIXELS, CError, CModel
from numpy.typing import NDArray
from test_cpp_results import LIKELIHOOD, check_equal
from tiny import TINY, photograph

from caflow_runtime.batching.draw_options import Rank
from caflow_runtime.bundle.known_values import known_values
from caflow_runtime.completion.color_hints import Point, draw_hints
from caflow_runtime.errors import InputError
from caflow_runtime.flow.tiles import Tiling
from caflow_runtime.pipeline.pipeline import Pipeline, load

HEIGHT, WIDTH = 150, 210
POINTS = [Point(20, 30, (200, 40, 40)), Point(150, 100, (40, 170, 60))]

pytestmark = pytest.mark.usefixtures("built_cpp")


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
        with pytest.raises(CError, match=r"must have 4 channels, .*; got 3: Pipeline\.prepare of Python makes them"):
            wrong()
    with pytest.raises(CError, match=r"targets\[0\] must have 3 channels, RGB; got 4"):
        runtimes.cpp.score([condition], [condition])
    with (
        CModel(TINY) as plain,
        pytest.raises(CError, match=r"conditions\[0\] must have 3 channels, RGB; got 4: leave out an alpha channel"),
    ):
        plain.best_of([condition])
