"""Inputs: random ones give a correct image or a clear error. Errors name the wrong argument or the damaged file."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from gpus import require
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import edited

from caflow_runtime.batching.draw_options import DrawFields, DrawOptions
from caflow_runtime.bundle.bundle_errors import BrokenGraph, BundleError
from caflow_runtime.bundle.reading import describe_file
from caflow_runtime.errors import BackendError, InputError, NotFinite
from caflow_runtime.flow.tiles import Tiling
from caflow_runtime.option_fields import fields_of
from caflow_runtime.pipeline.pipeline import Pipeline, load


@pytest.fixture(scope="module")
def pipe(uncalibrated: Path) -> Iterator[Pipeline]:
    with load(uncalibrated, backend="cpu", tiling=Tiling(64**2, 8)) as pipe:
        yield pipe


GOOD = np.zeros((4, 4, 3), np.uint8)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 24), st.integers(1, 24)), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_any_size_gives_an_image_of_its_size(pipe: Pipeline, sizes: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    best = pipe.best_of(images, n=2, seed=seed)
    for (height, width), image, mapped in zip(sizes, best.images, best.log_likelihood_map, strict=True):
        assert image.shape == (4 * height, 4 * width, 3)
        assert image.dtype == np.uint8
        assert mapped.shape == (4 * height, 4 * width)
    assert np.isfinite(best.log_likelihood).all()
    assert np.isfinite(pipe.score(list(best.images), images).bits_per_dim).all()


DTYPES = [np.bool_, np.int8, np.uint16, np.int64, np.float16, np.float32, np.float64, np.complex64, "O", "U4"]
shapes = st.lists(st.integers(0, 5), max_size=6).map(tuple)


@settings(max_examples=60)
@given(shapes, st.sampled_from([np.uint8, *DTYPES]))
def test_any_array_is_an_image_or_refused(pipe: Pipeline, shape: tuple[int, ...], dtype: Any) -> None:
    array = np.zeros(shape, dtype)
    fits = dtype is np.uint8 and len(shape) in (3, 4) and shape[-1] == 3 and 0 not in shape
    if fits:
        assert len(pipe.best_of(array, n=1).images) == (1 if len(shape) == 3 else shape[0])
    else:
        with pytest.raises(InputError, match="expected"):
            pipe.best_of(array, n=1)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("at least one image", {"images": []}),
        (r"np\.repeat", {"images": GOOD[:, :, 0]}),
        ("last axis", {"images": np.zeros((3, 4, 4), np.uint8)}),
        ("alpha", {"images": np.zeros((4, 4, 4), np.uint8)}),
        ("float64 .*255", {"images": np.full((4, 4, 3), 0.5)}),
        (r"images\[0\].*uint16 .*257", {"images": GOOD.astype(np.uint16)}),
        ("got str", {"images": "photo.jpg"}),
        (r"got list: .*np\.asarray", {"images": [[1, 2, 3]]}),
        *(("^n must", {"n": n}) for n in (0, 2**32)),
        ("^temperature must", {"temperature": [1, 2, 3]}),
        ("^seed must", {"seed": 2**32}),
        *(("^rank must", {"rank": rank}) for rank in ("beauty", ["likelihood"], np.array(["typical", "typical"]), 0)),
        *(("^keep must", {"n": 4, "keep": keep}) for keep in (4, (4,), (3, 2), (4, 3, 1), (4, 5))),
        ("^keep drops", {"n": 4, "keep": (4, 2), "rank": "consistency"}),
        ("^otherwise must", {"otherwise": "mark", "min_typicality": 0.1}),
        ("^judge must", {"judge": 0}),
        ("^options must", {"options": {"n": 2}}),
        ("^consistent must", {"consistent": "no"}),
    ],
)
def test_wrong_arguments_are_refused_by_name_with_what_helps(
    pipe: Pipeline, message: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=message):
        pipe.best_of(**{"images": GOOD, **arguments})


NO_NUMBERS = [float("nan"), float("inf"), -float("inf"), -1, True, "1", None, 10**5000, -(10**400), 1j, [], b"1"]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
def test_invalid_numbers_are_refused_for_every_argument(pipe: Pipeline, uncalibrated: Path, value: Any) -> None:
    """Each number that the pipeline accepts is checked, and the error begins with its name."""
    own = set() if value is not None else {"temperature", "n"}  # None is what the bundle, or the size, decides
    for method in (pipe.best_of, pipe.sample):
        for name in {"n", "temperature", "seed", "frame"} - own:
            with pytest.raises(InputError, match=f"^{name}(: expected| must be)"):
                method(GOOD, **{name: value})
    for name in {"n", "temperature", "seed", "noise", "batch", "min_typicality"} - own:
        with pytest.raises(InputError, match=f"^{name}(: expected| must be)"):
            next(pipe.stream([GOOD], **{name: value}))
    with pytest.raises(InputError, match=r"^keep must be"):
        pipe.best_of(GOOD, n=1, keep=(value, value))
    with pytest.raises(InputError, match=r"^temperature must be"):
        pipe.best_of(GOOD, temperature=(0.5, value))
    for name in ("min_typicality", "redraws"):
        with pytest.raises(InputError, match=f"^{name}(: expected| must be)"):
            pipe.best_of(GOOD, **{name: value})
    for name in ("pixel_budget", "overlap"):
        with pytest.raises(InputError, match=f"^{name} must be"):
            Tiling(**{name: value})
    for name in ("threads", "tiling"):
        with pytest.raises(InputError, match=f"^{name} must be"):
            load(uncalibrated, backend="cpu", **{name: value})


def test_keyword_arguments_are_the_fields_of_the_options() -> None:
    assert list(DrawFields.__annotations__) == list(fields_of(DrawOptions))


def test_numbers_of_numpy_are_numbers_and_do_not_overflow(pipe: Pipeline) -> None:
    images = [GOOD, GOOD + 1]
    numbers: dict[str, Any] = {"n": np.uint8(200), "temperature": np.float16(0.5), "seed": np.int8(3)}
    drawn = pipe.sample(images, **numbers, frame=np.int32(2))  # type: ignore[arg-type]
    wanted = pipe.sample(images, n=200, temperature=0.5, seed=3, frame=2)
    np.testing.assert_array_equal(drawn.images, wanted.images)


@pytest.mark.parametrize("noise", [None, 3, [None], [[1], [2]], [["x"]], [[{}]], [[[[1], [1, 2]]]]])
def test_noise_of_a_wrong_structure_is_refused(pipe: Pipeline, noise: Any) -> None:
    with pytest.raises(InputError, match=r"^noise: expected"):
        pipe.decode(noise, np.zeros((2, 2, 3), np.uint8))


def test_pairs_whose_sizes_or_numbers_do_not_fit_are_refused(pipe: Pipeline) -> None:
    with pytest.raises(InputError, match=r"target\[0\]: .*16×16; got 4×4"):
        pipe.score(GOOD, GOOD)
    with pytest.raises(InputError, match="1 targets and 2 conditions"):
        pipe.score([np.zeros((16, 16, 3), np.uint8)], [GOOD, GOOD])
    with pytest.raises(InputError, match="a pixel budget of 9216"):
        pipe.encode(np.zeros((96, 96, 3), np.uint8), np.zeros((24, 24, 3), np.uint8))


def test_wrong_settings_of_a_pipeline_are_refused(uncalibrated: Path) -> None:
    with pytest.raises(BackendError, match=r"cuda, tensorrt, .*'tpu'"):
        load(uncalibrated, backend="tpu")
    for threads in (-1, 1025):
        with pytest.raises(InputError, match="threads"):
            load(uncalibrated, threads=threads)
    with (
        load(uncalibrated, backend="cpu", tiling=Tiling(64**2, 64)) as pipe,
        pytest.raises(InputError, match="smaller overlap or a larger pixel_budget"),
    ):
        pipe.best_of(np.zeros((50, 50, 3), np.uint8))


def repaired(folder: Path) -> None:
    """Update the sizes and hashes in the manifest, so that the changed files pass its checks."""
    with edited(folder) as manifest:
        for file in [graph["file"] for graph in manifest["graphs"]] + manifest["weights"]:
            file.update(msgspec.to_builtins(describe_file(folder, file["path"])))


@pytest.mark.parametrize(
    ("name", "contents", "named"),
    [
        ("decode_1.onnx", b"", "decode_1"),
        ("decode_1.onnx", bytes(1000), "decode_1"),
        ("weights.bin", bytes(1000), None),
    ],
)
def test_a_file_that_is_damaged_is_named(copied: Path, name: str, contents: bytes, named: str | None) -> None:
    (copied / name).write_bytes(contents)
    with pytest.raises(BundleError, match=rf"{name} is damaged: expected \d+ bytes, got"):
        load(copied, backend="cpu")
    repaired(copied)
    with pytest.raises(BrokenGraph, match=named), load(copied, backend="cpu") as pipe:
        pipe.best_of(GOOD)


def test_a_bundle_may_have_a_relative_path(uncalibrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are loaded after the working directory has changed."""
    monkeypatch.chdir(uncalibrated.parent)
    with load(uncalibrated.name, backend="cpu") as pipe:
        monkeypatch.chdir(tmp_path)
        pipe.best_of(GOOD, n=1)
        assert pipe.folder == uncalibrated


CHANGED = r"has changed since the bundle was opened: expected .*, got .*: open the bundle again"


@pytest.mark.parametrize("backend", ["cpu", "openvino"])
@pytest.mark.parametrize("name", ["weights.bin", "encode.onnx", "reverse_1.onnx"])
def test_a_file_that_changes_before_reading_is_named(copied: Path, name: str, backend: str) -> None:
    require(backend)
    load(copied, backend=backend).close()  # the first time, all graphs are loaded and compared with the CPU
    with load(copied, backend=backend) as pipe:
        good = (copied / name).read_bytes()
        (copied / name).write_bytes(bytes(value ^ 1 for value in good) if name == "weights.bin" else good[:-100])
        with pytest.raises(BundleError, match=rf"{name} {CHANGED}"):
            pipe.best_of(GOOD, n=1)
        (copied / name).write_bytes(good)
        pipe.best_of(GOOD, n=1)


def test_weights_that_change_between_two_graphs_are_named(copied: Path, tmp_path: Path) -> None:
    """Scoring loads graphs that drawing does not load. Here another export takes the place of the first meanwhile."""
    with load(copied, backend="cpu") as pipe:
        best = pipe.best_of(GOOD, n=1)
        (tmp_path / "new.bin").write_bytes(bytes((copied / "weights.bin").stat().st_size))
        (tmp_path / "new.bin").replace(copied / "weights.bin")
        with pytest.raises(BundleError, match=rf"weights\.bin {CHANGED}"):
            pipe.score(best.images, GOOD)
        pipe.best_of(GOOD, n=1)  # graphs that are loaded already are still right
        (copied / "weights.bin").unlink()
        with pytest.raises(BundleError, match=r"weights\.bin is missing, .*: open the bundle again"):
            pipe.score(best.images, GOOD)


def test_a_graph_in_the_place_of_another_is_named(copied: Path) -> None:
    shutil.copy(copied / "decode_0.onnx", copied / "reverse_0.onnx")
    repaired(copied)
    with load(copied, backend="cpu") as pipe, pytest.raises(BackendError, match=r"reverse_0\.onnx: the graph requires"):
        pipe.best_of(GOOD)


def test_a_score_that_is_not_finite_is_an_error(copied: Path) -> None:
    weights = np.frombuffer((copied / "weights.bin").read_bytes(), np.float32)
    (copied / "weights.bin").write_bytes((weights * np.float32(1e6)).tobytes())
    repaired(copied)
    with load(copied, backend="cpu") as pipe:
        for call in (pipe.score, pipe.encode):
            with pytest.raises(NotFinite, match=r"target\[0\]: its log-likelihood is not finite"):
                call(np.full((16, 16, 3), 200, np.uint8), GOOD)


@pytest.mark.parametrize(
    ("options", "pixels", "n", "if_all_are_shown"),
    [
        (DrawOptions(), 512**2, 10, 10),
        (DrawOptions(), 512 * 513, 9, 10),
        (DrawOptions(), 1024**2, 2, 10),
        (DrawOptions(), 2_000_000, 1, 10),
        (DrawOptions(), 10**9, 1, 10),
        (DrawOptions(temperature=0), 64**2, 1, 1),  # all would be the same
        (DrawOptions(temperature=(0, 0.5)), 64**2, 10, 10),
        (DrawOptions(4), 10**9, 4, 4),
    ],
)
def test_large_results_have_fewer_samples_by_default(
    options: DrawOptions, pixels: int, n: int, if_all_are_shown: int
) -> None:
    assert options.for_result(pixels).n == n
    assert options.for_result(pixels, shows_all=True).n == if_all_are_shown
