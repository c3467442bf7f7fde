"""From arrays of a device to arrays of it; here the device is the CPU, as ONNX Runtime knows it in both ways."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import photograph

from caflow_export.export import ExportReport
from caflow_runtime.backends.backend import Backend
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeBound, OnnxRuntimeCpu
from caflow_runtime.engines import Profile
from caflow_runtime.errors import InputError
from caflow_runtime.graphs import Graphs
from caflow_runtime.pipeline import OVERLAP, PIXEL_BUDGET, Pipeline


@pytest.fixture(params=[OnnxRuntimeCpu, lambda: OnnxRuntimeBound("cpu")], ids=["numpy", "bound"])
def pipe(request: pytest.FixtureRequest, exported: ExportReport) -> Iterator[Pipeline]:
    backend: Backend = request.param()
    with Pipeline(Graphs(exported.path, backend), PIXEL_BUDGET, OVERLAP) as pipe:
        yield pipe


def test_it_is_what_best_of_gives(pipe: Pipeline, photographs: Path) -> None:
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
        (np.zeros((8, 8, 3), np.uint8), r"\(B, h, w, 3\) uint8 RGB, got ndarray of shape \(8, 8, 3\)"),
        (np.zeros((1, 8, 8, 3), np.float32), "and type float32"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"of shape \(0, 8, 8, 3\)"),
        (np.zeros((1, 8, 9, 3), np.uint8), "wanted sides that are multiples of 2, got 8×9: pad it"),
        (np.zeros((1, 8, 16, 3), np.uint8)[:, :, ::2], "wanted a contiguous array"),
        ("a path", "got str of shape"),
    ],
)
def test_refusals_name_what_was_wanted(pipe: Pipeline, condition: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pipe.run(condition)


def test_all_must_run_at_once(exported: ExportReport) -> None:
    backend = OnnxRuntimeCpu()
    with Pipeline(Graphs(exported.path, backend), 3 * 32 * 32, overlap=8) as pipe:
        condition = np.zeros((1, 8, 8, 3), np.uint8)
        assert len(pipe.run(condition, n=3).images) == 1
        with pytest.raises(InputError, match=r"1 × 4 samples of 32×32 must run at once: give a pixel_budget of 4096$"):
            pipe.run(condition, n=4)
        backend.profiles = [Profile(2, 32, 32)]
        with pytest.raises(InputError, match=r"4096 and engines of --max-rows 4 --max-size 64$"):
            pipe.run(condition, n=4)
