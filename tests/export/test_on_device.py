"""`Pipeline.run` and results that stay on the device. Here the device is the CPU, used by ONNX Runtime in two ways."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gpus import bound_to_cpu
from numpy.typing import NDArray
from tiny import photograph

from caflow_runtime.backends.backend import Backend
from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.bundle.engine_sets import Profile
from caflow_runtime.errors import InputError, NotFinite
from caflow_runtime.flow.level_chain import Array
from caflow_runtime.flow.tiles import Tiling
from caflow_runtime.pipeline.pipeline import Pipeline, load


@pytest.fixture(params=[OnnxRuntimeCpu, bound_to_cpu], ids=["numpy", "bound"])
def pipe(request: pytest.FixtureRequest, uncalibrated: Path) -> Iterator[Pipeline]:
    backend: Backend = request.param()
    with Pipeline(Graphs(uncalibrated, backend), Tiling()) as pipe:
        yield pipe


def test_run_returns_the_result_of_best_of(pipe: Pipeline, photographs: Path) -> None:
    conditions = np.stack([photograph(photographs, k, 8, 12) for k in range(2)])
    for n in (1, 4):
        expected = pipe.best_of(conditions, n=n, temperature=[0.7, 0.9], seed=3)
        for given in (conditions, torch.from_numpy(conditions)):
            got = pipe.run(given, n=n, temperature=[0.7, 0.9], seed=3)
            np.testing.assert_array_equal(np.from_dlpack(got.images), expected.images)
            np.testing.assert_array_equal(got.sample, expected.sample)
            np.testing.assert_allclose(got.log_likelihood, expected.log_likelihood, rtol=1e-6)
            np.testing.assert_allclose(got.bits_per_dim, expected.bits_per_dim, rtol=1e-6)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), r"\(B, h, w, 3\) of uint8 RGB; got ndarray of shape \(8, 8, 3\)"),
        (np.zeros((1, 8, 8, 3), np.float32), "and type float32"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"of shape \(0, 8, 8, 3\)"),
        (np.zeros((1, 8, 9, 3), np.uint8), "both sides must be multiples of 2 pixels; got 9×8: pad it"),
        (np.zeros((1, 8, 16, 3), np.uint8)[:, :, ::2], "expected a contiguous array"),
        ("a path", "got str of shape"),
    ],
)
def test_wrong_conditions_are_refused_with_the_expected_form(pipe: Pipeline, condition: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipe.run(condition)


def test_samples_that_do_not_fit_into_one_run_are_refused(uncalibrated: Path) -> None:
    backend = OnnxRuntimeCpu()
    with Pipeline(Graphs(uncalibrated, backend), Tiling(3 * 32 * 32, 8)) as pipe:
        condition = np.zeros((1, 8, 8, 3), np.uint8)
        assert len(pipe.run(condition, n=3).images) == 1
        with pytest.raises(InputError, match=r"1 × 4 samples of 32×32 pixels must fit .*: use a pixel budget of 4096$"):
            pipe.run(condition, n=4)
        backend.profile = Profile(2, 32, 32)
        with pytest.raises(InputError, match=r"4096 and .*--max-batch-size 4 --max-size 32x32$"):
            pipe.run(condition, n=4)


class Judging(OnnxRuntimeCpu):
    """Backend that keeps pixels on the device, and counts the values that are copied to the host."""

    finds_not_finite = True

    def __init__(self) -> None:
        super().__init__()
        self.given = {"float32": 0, "uint8": 0}
        self.has_room = True

    def to_host(self, array: Array) -> NDArray[Any]:
        host = super().to_host(array)
        if host.ndim == 4:
            self.given[host.dtype.name] += host.size
        return host

    def are_finite(self, array: Array) -> NDArray[np.bool_]:
        return np.asarray(np.isfinite(np.asarray(array)).all((1, 2, 3)))

    def take(self, array: Array, rows: NDArray[np.int64]) -> Array:
        if not self.has_room:
            raise MemoryError
        return super().take(array, rows)


@pytest.fixture
def judging(uncalibrated: Path) -> Iterator[tuple[Pipeline, Judging]]:
    backend = Judging()
    with Pipeline(Graphs(uncalibrated, backend), Tiling()) as pipe:
        yield pipe, backend


def test_only_the_pixels_of_chosen_samples_are_copied_to_the_host(
    judging: tuple[Pipeline, Judging], uncalibrated: Path, photographs: Path
) -> None:
    pipe, backend = judging
    images = [photograph(photographs, k, *size) for k, size in enumerate([(8, 8), (7, 9)])]
    with load(uncalibrated, backend="cpu") as cpu:
        for options in ({"n": 10}, {"n": 4, "keep": (4, 2)}, {"n": 3, "rank": "consistency"}):
            best, expected = pipe.best_of(images, **options), cpu.best_of(images, **options)
            np.testing.assert_array_equal(best.sample, expected.sample)
            for one, other in zip(best.images, expected.images, strict=True):
                np.testing.assert_array_equal(one, other)
            assert backend.given["float32"] == 0
        assert 0 < backend.given["uint8"] < 10 * 2 * 3 * 32 * 40
        frames = [frame.pixels for frame in pipe.stream([images[1]] * 3, n=2)]
        for pixels, frame in zip(frames, cpu.stream([images[1]] * 3, n=2), strict=True):
            np.testing.assert_array_equal(pixels, frame.pixels)
    with pytest.raises(NotFinite, match=r"no sample of images\[0\] is finite"):
        pipe.best_of(images[0], n=2, temperature=1e30)
