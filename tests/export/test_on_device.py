"""`Pipeline.run` and results that stay on the device. Here the device is the CPU, used by ONNX Runtime in two ways.

Backends with the limits of TensorRT engines: every run fits, and the CPU verifies them graph by graph.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gpus import Watched, bound_to_cpu
from numpy.typing import NDArray
from tiny import photograph

from caflow_export.measure import VerificationFailed
from caflow_export.verify_engines import verify_engines
from caflow_runtime.backends.backend import Backend
from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.bundle.engine_sets import Profile, compiled_graphs
from caflow_runtime.bundle.manifest import cell_side, size_of
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.errors import InputError, NotFinite
from caflow_runtime.flow.level_chain import Array, Arrays
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

    def to_host(self, array: Array) -> NDArray[Any]:
        host = super().to_host(array)
        if host.ndim == 4:
            self.given[host.dtype.name] += host.size
        return host

    def are_finite(self, array: Array) -> NDArray[np.bool_]:
        return np.asarray(np.isfinite(np.asarray(array)).all((1, 2, 3)))


def test_only_the_pixels_of_chosen_samples_are_copied_to_the_host(uncalibrated: Path, photographs: Path) -> None:
    pipe = Pipeline(Graphs(uncalibrated, backend := Judging()), Tiling())
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


PROFILE = Profile(3, 64, 96)


class Limited(Watched):
    """Backend that fails if a run does not fit its profile."""

    def __init__(self, folder: Path, profile: Profile) -> None:
        super().__init__()
        self.profile = self.most = profile
        self.manifest = read_manifest(folder)

    def watch(self, name: str, arrays: Arrays, out: dict[str, Array]) -> dict[str, Array]:
        cell, most = cell_side(self.manifest.model, name), self.most
        known = {"items": most.batch_size, "images": most.batch_size, "h": most.height // cell, "w": most.width // cell}
        for port in self.manifest.graph(name).inputs:
            largest, found = [size_of(size, known) for size in port.shape], arrays[port.name].shape
            assert (np.array(found) <= largest).all(), (name, port.name, found)
        return out


@pytest.fixture
def limited(uncalibrated: Path) -> Iterator[Pipeline]:
    with Pipeline(Graphs(uncalibrated, Limited(uncalibrated, PROFILE)), tiling=Tiling(2**20, 16)) as pipe:
        yield pipe


def test_images_beyond_the_limits_of_an_engine_are_split(
    limited: Pipeline, uncalibrated: Path, photographs: Path
) -> None:
    free = Pipeline(Graphs(uncalibrated, OnnxRuntimeCpu()), tiling=Tiling(64 * 96, 16))
    images = [photograph(photographs, k, *size) for k, size in enumerate([(5, 7), (8, 12), (16, 24)])]
    one, other = limited.best_of(images, n=5), free.best_of(images, n=5)
    np.testing.assert_array_equal(one.sample, other.sample)
    np.testing.assert_allclose(one.log_likelihood, other.log_likelihood, rtol=1e-6)
    scores = [pipe.score(one.images, images).log_likelihood for pipe in (limited, free)]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-6)
    large = photograph(photographs, 3, 30, 45)
    assert set(limited.tiles(large)) == {(56, 72)}  # the smallest windows of which nine cover the image
    assert limited.best_of([large, *images], n=2).images[0].shape == (120, 180, 3)


def test_requests_that_an_engine_cannot_run_are_refused_with_the_required_limits(
    limited: Pipeline, photographs: Path
) -> None:
    limited.best_of(photograph(photographs, 0, 8, 12), n=3, keep=(3, 1))
    with pytest.raises(InputError, match=r"keep: .* use .*--max-batch-size 4 --max-size 48x32$"):
        limited.best_of(photograph(photographs, 0, 8, 12), n=4, keep=(4, 1))
    large = photograph(photographs, 1, 20, 20)
    with pytest.raises(InputError, match=r"80×80 pixels must run as one tile: use .*--max-size 80x80$"):
        limited.encode(photograph(photographs, 1, 80, 80), large)
    small = Pipeline(limited.runner.graphs, tiling=Tiling(2**20, 64))
    with pytest.raises(InputError, match=r" or engines built with a larger --max-size$"):
        small.best_of(large, n=1)


@pytest.mark.parametrize("profile", [PROFILE, Profile(1, 64, 64), Profile(2, 16, 16)])
def test_the_verification_of_engines_stays_within_their_limits(uncalibrated: Path, profile: Profile) -> None:
    measured = verify_engines(uncalibrated, Limited(uncalibrated, profile))
    assert sum("identical items" in m.what for m in measured) == (profile.batch_size if profile.batch_size > 1 else 0)


class Wrong(Watched):
    """Backend with a wrong graph, as TensorRT had: with `rows` rows, the outputs of row `first` and later are wrong."""

    def __init__(self, name: str, rows: int, first: int) -> None:
        super().__init__()
        self.wrong, self.rows, self.first = name, rows, first
        self.profile = Profile(self.rows + 1, 128, 128)

    def watch(self, name: str, arrays: Arrays, out: dict[str, Array]) -> dict[str, Array]:
        is_off = name == self.wrong and len(next(iter(out.values()))) == self.rows
        for array in out.values() if is_off else ():
            array[self.first :] += 1
        return out


def test_every_graph_is_compared_with_the_cpu(uncalibrated: Path) -> None:
    measured = verify_engines(uncalibrated, bound_to_cpu())
    graphs = {graph.name for graph in compiled_graphs(read_manifest(uncalibrated))}
    assert {m.graph for m in measured} == graphs | {"sample", "flow"}
    assert max(m.max_error / m.tolerance for m in measured) < 0.1


@pytest.mark.parametrize(
    ("name", "rows", "first", "message"),
    [
        ("decode_1", 6, 0, r"decode_1: .*: the error must be at most"),
        ("likelihood_0", 6, 5, r"likelihood_0: .*: the error must be at most"),
        ("decode_0", 7, 0, "flow: 7 items against one alone, pixels: the error must be at most"),
        ("decode_0", 7, 6, "flow: 7 identical items, pixels: the error must be at most"),
    ],
)
def test_a_wrong_graph_and_its_batch_are_named(
    uncalibrated: Path, name: str, rows: int, first: int, message: str
) -> None:
    with pytest.raises(VerificationFailed, match=message):
        verify_engines(uncalibrated, Wrong(name, rows, first))
