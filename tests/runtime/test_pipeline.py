"""The pipeline: equal results for all batches, threads and pixel budgets, ranking, tiles, and memory."""

import gc
import pickle
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import in_a_process
from gpus import Watched, require
from numpy.typing import NDArray
from tiny import edited, photograph

import caflow_deploy
from caflow_runtime.backends.graphs import Graphs
from caflow_runtime.errors import InputError
from caflow_runtime.flow.level_chain import Array, Arrays
from caflow_runtime.flow.tiles import Tiling
from caflow_runtime.pipeline.pipeline import Pipeline, load


@pytest.fixture(scope="module")
def conditions(photographs: Path) -> list[NDArray[np.uint8]]:
    return [photograph(photographs, k, 8, 10) for k in range(3)]


def test_batch_budget_and_threads_change_no_result(uncalibrated: Path, pipe: Pipeline, photographs: Path) -> None:
    images = [photograph(photographs, k, *size) for k, size in enumerate([(8, 10), (8, 10), (5, 9), (16, 3)])]
    together = pipe.best_of(images, n=5, seed=1)
    tried: list[dict[str, Any]] = [
        {"threads": 1},
        {"tiling": Tiling(32 * 40)},
        {"tiling": Tiling(3 * 32 * 40), "threads": 2},
    ]
    for settings in tried:
        with load(uncalibrated, backend="cpu", **settings) as other:
            for k, image in enumerate(images):
                alone = other.best_of(image, n=5, seed=1)
                assert alone.sample[0] == together.sample[k]
                np.testing.assert_allclose(alone.log_likelihood, together.log_likelihood[k], rtol=1e-6)
                assert (alone.images[0] != together.images[k]).mean() <= 1e-3


class SmallMemory(Watched):
    """Backend whose runs fail above this number of pixels of all results or targets.

    It also checks that the arrays of failed runs have been freed.
    """

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels
        self.lost: list[weakref.ref[Array]] = []
        self.is_spared = False

    def spare_memory(self) -> bool:
        self.is_spared = True
        return super().spare_memory()

    def watch(self, name: str, arrays: Arrays, out: dict[str, Array]) -> dict[str, Array]:
        pixels = out["pixels"] if "pixels" in out else arrays.get("pixels", np.empty(0))
        if pixels.size > 3 * self.pixels:
            self.lost.append(weakref.ref(pixels))
            raise MemoryError
        assert not any(lost() is not None for lost in self.lost), "an array of a failed run was not freed"
        return out


def test_after_memory_ran_out_the_pipeline_continues_with_a_smaller_pixel_budget(
    uncalibrated: Path, pipe: Pipeline, photographs: Path
) -> None:
    images = [photograph(photographs, k, *size) for k, size in enumerate([(8, 10), (5, 9)])]
    targets = [photograph(photographs, k, 4 * i.shape[0], 4 * i.shape[1]) for k, i in enumerate(images)]
    drawn, scored = pipe.best_of(images, n=5), pipe.score(targets, images)
    backend = SmallMemory(3 * 24 * 40)
    with Pipeline(Graphs(uncalibrated, backend), tiling=Tiling(2**20, 16)) as small:
        with pytest.warns(UserWarning, match="memory ran out; continuing with a pixel budget of") as warned:
            again = small.best_of(images, n=5)
        assert len(warned) == 1  # half of the 5 rows fits: 2 of 32×40, or 3 of 24×40
        assert backend.is_spared
        assert small.tiles(images[0]) == [(32, 40)]
        scored_again = small.score(targets, images)  # the smaller budget is kept, so there is no warning
    np.testing.assert_array_equal(again.sample, drawn.sample)
    assert all((a != b).mean() <= 1e-3 for a, b in zip(again.images, drawn.images, strict=True))
    np.testing.assert_allclose(scored_again.log_likelihood, scored.log_likelihood, rtol=1e-6)
    many = [images[0]] * 12  # which share a batch
    with (
        Pipeline(Graphs(uncalibrated, SmallMemory(6 * 32 * 40)), tiling=Tiling(2**20, 16)) as small,
        pytest.warns(UserWarning, match=f"with a pixel budget of {6 * 32 * 40}"),
    ):
        small.best_of(many, n=1)
    for overlap in (0, 16):
        with (
            Pipeline(Graphs(uncalibrated, SmallMemory(1)), tiling=Tiling(2**14, overlap)) as none,
            pytest.warns(UserWarning, match="memory ran out"),
            pytest.raises(MemoryError),
        ):
            none.best_of(images, n=5)
        assert none.runner.pixel_budget == 2**14


def test_after_memory_ran_out_finished_samples_do_not_run_again(uncalibrated: Path, photographs: Path) -> None:
    images, shown = [photograph(photographs, 0, *size) for size in ((4, 4), (8, 10))], list[tuple[int, int]]()
    with (
        Pipeline(Graphs(uncalibrated, SmallMemory(32 * 40)), tiling=Tiling(2**20, 16)) as small,
        pytest.warns(UserWarning, match="memory ran out"),
    ):
        small.best_of(images, n=2, show=lambda done, count: shown.append((done, count)))
    assert shown == [(2, 4), (3, 4), (4, 4)]  # both samples of the small image, and then each of the other one


def test_the_first_samples_do_not_depend_on_their_number(pipe: Pipeline, conditions: list[NDArray[np.uint8]]) -> None:
    few, many = (pipe.sample(conditions[0], n=n, seed=2) for n in (2, 6))
    for k in range(2):
        a, b = (int(np.flatnonzero(drawn.sample[0] == k)[0]) for drawn in (few, many))
        np.testing.assert_array_equal(few.images[0][a], many.images[0][b])
    other = pipe.sample(conditions[0], n=2, seed=2, frame=1)
    assert not np.array_equal(other.images[0], few.images[0])


@pytest.mark.parametrize("tiling", [Tiling(), Tiling(28**2, 4)], ids=["whole", "tiled"])
def test_best_of_returns_the_first_of_the_ranked_samples(
    uncalibrated: Path, conditions: list[NDArray[np.uint8]], tiling: Tiling
) -> None:
    with load(uncalibrated, backend="cpu", tiling=tiling) as pipe:
        assert (len(pipe.tiles(conditions[0])) > 1) == (tiling != Tiling())
        for rank in ("likelihood", "consistency"):
            best = pipe.best_of(conditions, n=5, rank=rank)
            drawn: Any = pipe.sample(conditions, n=5, rank=rank)
            for k in range(3):
                np.testing.assert_array_equal(best.images[k], drawn.images[k][0])
            np.testing.assert_allclose(best.log_likelihood, drawn.log_likelihood[:, 0])
            np.testing.assert_array_equal(best.sample, drawn.sample[:, 0])
            assert (np.diff(drawn.consistency if rank == "consistency" else drawn.log_likelihood, axis=1) <= 0).all()
    assert np.asarray(drawn.std).shape == (3, 32, 40, 3)
    np.testing.assert_allclose(drawn.std[0], np.std(drawn.images[0].astype(np.float64), 0), atol=1e-3)


def test_maps_sum_to_the_log_likelihood(pipe: Pipeline, photographs: Path) -> None:
    """The sizes of the images require padding, which must not count."""
    images = [photograph(photographs, 0, 7, 11), photograph(photographs, 1, 3, 5)]
    best, drawn = pipe.best_of(images, n=2), pipe.sample(images, n=2)
    for k, image in enumerate(images):
        size = (4 * image.shape[0], 4 * image.shape[1])
        assert best.images[k].shape == (*size, 3)
        assert best.log_likelihood_map[k].shape == size
        assert drawn.log_likelihood_map[k].shape == (2, *size)
        np.testing.assert_allclose(best.log_likelihood_map[k].sum(dtype=np.float64), best.log_likelihood[k], rtol=1e-5)
    scored = pipe.score(best.images, images)
    np.testing.assert_allclose(scored.log_likelihood_map[0].sum(dtype=np.float64), scored.log_likelihood[0], rtol=1e-5)


def test_decoding_the_noise_of_an_image_gives_the_image(pipe: Pipeline, photographs: Path) -> None:
    targets = [photograph(photographs, 0, 32, 40), photograph(photographs, 1, 20, 28)]
    conditions = [np.ascontiguousarray(target[::4, ::4]) for target in targets]
    encoded = pipe.encode(targets, conditions)
    np.testing.assert_allclose(encoded.log_likelihood, pipe.score(targets, conditions).log_likelihood, rtol=1e-6)
    decoded = pipe.decode(encoded.noise, conditions)
    for target, image in zip(targets, decoded.images, strict=True):
        np.testing.assert_array_equal(target, image)
    assert encoded.statistics is not None
    assert decoded.statistics is None
    assert decoded.image_typicality is None
    assert decoded.sample_typicality is None
    with pytest.raises(InputError, match="noise: expected arrays of shapes"):
        pipe.decode([encoded.noise[0], encoded.noise[0]], conditions)


def test_a_consistent_result_reduces_to_its_condition_and_is_scored_again(pipe: Pipeline, photographs: Path) -> None:
    condition = photograph(photographs, 4, 12, 12)
    best: Any = pipe.best_of(condition, n=2, consistent=True)
    assert best.density_at == "image"
    assert best.consistency[0] > 45
    np.testing.assert_allclose(best.log_likelihood, pipe.score(best.images, condition).log_likelihood, rtol=1e-6)
    drawn: Any = pipe.sample(condition, n=2, consistent=True)
    assert (drawn.consistency > 45).all()
    np.testing.assert_array_equal(drawn.images[0][0], best.images[0])


def test_keep_drops_unlikely_samples_after_the_coarsest_level(
    pipe: Pipeline, conditions: list[NDArray[np.uint8]]
) -> None:
    """If no sample is dropped, results are unchanged. Otherwise the least likely samples after the coarsest level are
    dropped, and the others are ranked as usual."""
    full = pipe.sample(conditions, n=6)
    np.testing.assert_array_equal(pipe.best_of(conditions, n=6, keep=(6, 6)).sample, full.sample[:, 0])
    pruned = pipe.best_of(conditions, n=6, keep=(6, 2))
    for k in range(3):
        place = int(np.flatnonzero(full.sample[k] == pruned.sample[k])[0])
        np.testing.assert_array_equal(pruned.images[k], full.images[k][place])
        coarse = np.argsort(-full.per_level[k][:, 0])[:2]  # the two best samples after the coarsest level
        assert place == coarse.min()
    with pytest.raises(InputError, match="keep: all 6 samples"):
        load(pipe.runner.graphs.folder, backend="cpu", tiling=Tiling(32 * 40)).best_of(conditions, n=6, keep=(6, 2))


@pytest.mark.parametrize("overlap", [16, 48])
def test_a_tiled_result_is_close_to_the_untiled_one_and_has_no_seams(
    uncalibrated: Path, pipe: Pipeline, photographs: Path, overlap: int
) -> None:
    """All tiles use the same noise, and there are no seams: gradients at their borders are those of the whole image."""
    condition = photograph(photographs, 0, 50, 61)
    whole = pipe.best_of(condition, n=1)
    with load(uncalibrated, backend="cpu", tiling=Tiling(112**2, overlap)) as tiled_pipe:
        tiled = tiled_pipe.best_of(condition, n=1)
        windows = tiled_pipe.runner.windows(condition)
    assert len(windows) > 3
    np.testing.assert_allclose(tiled.log_likelihood, whole.log_likelihood, rtol=1e-2)
    a, b = whole.images[0].astype(np.float64), tiled.images[0].astype(np.float64)
    assert np.sqrt(np.square(a - b).mean()) < 2
    starts, side = sorted({w.x.start for w in windows}), windows[0].x.length
    borders = [(before + side + after) // 2 for before, after in pairwise(starts)]
    steps = [np.abs(np.diff(image, axis=1))[:, [border - 1 for border in borders]].mean() for image in (a, b)]
    assert 0.95 < steps[1] / steps[0] < 1.05


@pytest.mark.parametrize("backend", ["cpu", "openvino"])
def test_results_do_not_depend_on_other_threads(uncalibrated: Path, photographs: Path, backend: str) -> None:
    require(backend)
    images = [photograph(photographs, k, 8, 8 + 4 * k) for k in range(3)]
    with load(uncalibrated, backend=backend) as pipe, ThreadPoolExecutor(6) as pool:
        expected = [pipe.best_of(images[k % 3], n=2, seed=k) for k in range(12)]
        results = list(pool.map(lambda k: pipe.best_of(images[k % 3], n=2, seed=k), range(12)))
    for one, other in zip(expected, results, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.per_level, other.per_level)


@pytest.mark.full
def test_a_thousand_calls_do_not_grow_memory(pipe: Pipeline, photographs: Path) -> None:
    def resident() -> int:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096

    images = [photograph(photographs, 0, *size) for size in [(2, 2), (4, 3), (3, 6), (8, 8)]]
    for k in range(100):
        pipe.best_of(images[k % 4], n=2)
    before = resident()
    for k in range(1000):
        pipe.best_of(images[k % 4], n=2, seed=k)
    assert resident() - before < 8 * 2**20


def test_memory_is_bounded_by_the_budget(uncalibrated: Path) -> None:
    """An image with four times the pixels requires little more memory than its larger results."""
    code = (
        "import resource, sys; import numpy as np; from caflow_runtime.flow.tiles import Tiling; "
        "from caflow_runtime.pipeline.pipeline import load; "
        f"pipe = load({str(uncalibrated)!r}, backend='cpu', threads=1, tiling=Tiling(2**16, 16)); "
        "side = int(sys.argv[1]); image = np.full((side, side, 3), 99, np.uint8); pipe.best_of(image, n=3); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for side in (128, 256):
        peaks.append(1024 * int(in_a_process([sys.executable, "-c", code, side]).stdout))
    more = (4 * 256) ** 2 - (4 * 128) ** 2
    assert peaks[1] - peaks[0] < 80 * more  # 3 unfinished samples, each with 12 bytes of pixels and 4 of shares


def test_a_closed_pipeline_refuses_calls(uncalibrated: Path, conditions: list[NDArray[np.uint8]]) -> None:
    with caflow_deploy.load(uncalibrated, backend="cpu") as pipe:
        assert pipe.backend == "onnxruntime cpu"
    with pytest.raises(RuntimeError, match="the pipeline is closed"):
        pipe.best_of(conditions[0])


def test_the_bundle_says_at_which_temperature_and_rank_it_is_best(
    pipe: Pipeline, conditions: list[NDArray[np.uint8]], copied: Path
) -> None:
    image = conditions[0]
    with edited(copied) as manifest:
        manifest["model"]["sampling"] = {"temperature": 0.0, "rank": "consistency"}
    with load(copied, backend="cpu") as other:
        best = other.best_of(image, n=3)
        assert best.consistency is not None
        np.testing.assert_array_equal(best.images, pipe.best_of(image, n=1, temperature=0.0).images)
        given = other.best_of(image, n=3, temperature=0.8, rank="likelihood")
        np.testing.assert_array_equal(given.images, pipe.best_of(image, n=3).images)
        assert other.best_of(image, n=4, keep=(4, 2)).consistency is None  # `keep` drops samples by likelihood


def test_pickling_a_pipeline_is_refused_with_advice(uncalibrated: Path) -> None:
    with load(uncalibrated, backend="cpu") as pipe, pytest.raises(TypeError, match="load the bundle there instead"):
        pickle.dumps(pipe)
