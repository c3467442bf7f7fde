"""Backends with the limits of TensorRT engines: every run fits, and the CPU verifies them graph by graph."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gpus import Watched, bound_to_cpu
from tiny import photograph

from caflow_export.measure import VerificationFailed
from caflow_export.verify_engines import verify_engines
from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.backends.onnx_runtime import OnnxRuntimeCpu
from caflow_runtime.bundle.engine_sets import Profile, compiled_graphs
from caflow_runtime.bundle.manifest import cell_side, size_of
from caflow_runtime.bundle.reading import read_manifest
from caflow_runtime.errors import InputError
from caflow_runtime.flow.level_chain import Array, Arrays
from caflow_runtime.flow.tiles import Tiling
from caflow_runtime.pipeline.pipeline import Pipeline

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


@pytest.fixture
def free(uncalibrated: Path) -> Iterator[Pipeline]:
    with Pipeline(Graphs(uncalibrated, OnnxRuntimeCpu()), tiling=Tiling(64 * 96, 16)) as pipe:
        yield pipe


def test_images_beyond_the_limits_of_an_engine_are_split(limited: Pipeline, free: Pipeline, photographs: Path) -> None:
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
