"""The C++ runtime: its own tests, results equal to Python's, builds, and applications outside the source tree."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from c_library import (
    CONSISTENCY,
    DRIFTING,
    FIXED,
    FRESH,
    LIKELIHOOD_RANK,
    NO_SAMPLE,
    WITH_LIKELIHOOD_MAPS,
    WITH_PIXELS,
    CError,
    CModel,
    Result,
)
from cpp_build import (
    BUILD,
    MISSING,
    ROOT,
    SOURCE,
    build,
    check_provider,
    library_of_the_wheel,
    run,
    with_tensorrt,
)
from numpy.typing import NDArray
from tiny import TINY, photograph

from caflow_deploy import load
from caflow_runtime.pipeline.pipeline import Pipeline

EQUAL_BYTES = 0.9999
"""Smallest fraction of equal bytes in an image. The other bytes may differ by 1."""
LIKELIHOOD = 1e-6
"""Relative tolerance with the same ONNX Runtime."""

SCORED_APART = 1e-5
"""Relative tolerance for images that ran in different batches, and whose levels nearly cancel each other."""
LIKELIHOOD_ACROSS_VERSIONS = 1e-5

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed (.ci/packages): {' '.join(MISSING)}")


@pytest.fixture(scope="module")
def pipe() -> Iterator[Pipeline]:
    with load(TINY, backend="cpu") as pipe:
        yield pipe


@pytest.fixture
def model(built_cpp: Path) -> Iterator[CModel]:
    with CModel(built_cpp / "libcaflow.so", TINY, backend=b"cpu") as model:
        yield model


def check_equal(
    result: Result, image: NDArray[np.uint8], per_level: NDArray[np.float64], tolerance: float = LIKELIHOOD
) -> None:
    """Check that a result has this likelihood and this image, in which a few bytes may differ by 1."""
    assert result.rgb is not None
    assert result.rgb.shape == image.shape
    difference = np.abs(result.rgb.astype(int) - image)
    assert (difference == 0).mean() >= EQUAL_BYTES
    assert difference.max() <= 1
    np.testing.assert_allclose(result.per_level, per_level, rtol=0, atol=tolerance * abs(per_level.sum()))
    assert result.log_likelihood == pytest.approx(per_level.sum(), rel=tolerance)


def test_its_own_tests_pass(built_cpp: Path) -> None:
    run("ctest", "--output-on-failure", "-LE", "long|fakes", cwd=built_cpp)  # test_cpp_engines.py runs those on fakes


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
def test_the_best_is_pythons(
    model: CModel, pipe: Pipeline, photographs: Path, options: dict[str, Any], height: int, width: int
) -> None:
    conditions = [photograph(photographs, number, height, width) for number in (0, 5)]
    ours = {"samples" if name == "n" else name: value for name, value in options.items() if name != "rank"}
    if options.get("rank") == "consistency":
        ours["rank"] = CONSISTENCY
    best = pipe.best_of(conditions, **options)
    results = model.best_of(conditions, **ours, flags=WITH_LIKELIHOOD_MAPS)
    for k, result in enumerate(results):
        check_equal(result, best.images[k], best.per_level[k])
        assert (result.image, result.sample) == (k, best.sample[k])
        assert result.bits_per_dim == pytest.approx(best.bits_per_dim[k], rel=LIKELIHOOD)
        assert result.log_likelihood_map is not None
        np.testing.assert_allclose(result.log_likelihood_map, best.log_likelihood_map[k], rtol=1e-4, atol=1e-3)
        if best.consistency is not None:
            assert result.consistency == pytest.approx(best.consistency[k], abs=1e-6)


def test_all_samples_are_pythons(model: CModel, pipe: Pipeline, photographs: Path) -> None:
    condition = photograph(photographs, 2, 20, 30)
    samples = pipe.sample(condition, n=5)
    results = model.sample([condition], samples=5, flags=WITH_PIXELS)
    assert [result.sample for result in results] == list(samples.sample[0])
    for k, result in enumerate(results):
        check_equal(result, samples.images[0][k], samples.per_level[0, k])
        assert result.pixels is not None
        np.testing.assert_array_equal(np.clip(result.pixels, 0, 255).astype(np.uint8), result.rgb)


def test_scores_are_pythons(model: CModel, pipe: Pipeline, photographs: Path) -> None:
    targets = [photograph(photographs, number, 4 * 18, 4 * 27) for number in (1, 3)]
    conditions = [cv2.resize(target, (27, 18), interpolation=cv2.INTER_AREA).astype(np.uint8) for target in targets]
    score = pipe.score(targets, conditions)
    for k, result in enumerate(model.score(targets, conditions)):
        np.testing.assert_allclose(
            result.per_level, score.per_level[k], rtol=0, atol=LIKELIHOOD * -score.log_likelihood[k]
        )
        assert result.log_likelihood == pytest.approx(score.log_likelihood[k], rel=LIKELIHOOD)


def test_scores_with_a_dequantizer_are_pythons(built_cpp: Path, uncalibrated: Path, photographs: Path) -> None:
    target = photograph(photographs, 8, 4 * 9, 4 * 12)
    condition = cv2.resize(target, (12, 9), interpolation=cv2.INTER_AREA).astype(np.uint8)
    with (
        load(uncalibrated, backend="cpu") as pipe,
        CModel(built_cpp / "libcaflow.so", uncalibrated, backend=b"cpu") as model,
    ):
        assert "dequantize" in {graph.name for graph in pipe.manifest.graphs}
        (result,) = model.score([target], [condition])
        assert result.log_likelihood == pytest.approx(pipe.score(target, condition).log_likelihood[0], rel=LIKELIHOOD)


@pytest.mark.parametrize(("budget", "overlap"), [(128 * 128, 32), (96 * 96, 16)])
def test_tiles_are_pythons(built_cpp: Path, photographs: Path, budget: int, overlap: int) -> None:
    condition = photograph(photographs, 4, 77, 61)
    with load(TINY, backend="cpu", pixel_budget=budget, overlap=overlap) as pipe:
        assert len(pipe.tiles(condition)) > 4
        best = pipe.best_of(condition, n=3)
        score = pipe.score(best.images, condition)
    with CModel(built_cpp / "libcaflow.so", TINY, backend=b"cpu", pixel_budget=budget, overlap=overlap) as model:
        check_equal(model.best_of([condition], samples=3)[0], best.images[0], best.per_level[0])
        scored = model.score([best.images[0]], [condition])[0]
    assert scored.log_likelihood == pytest.approx(score.log_likelihood[0], rel=LIKELIHOOD)


@pytest.mark.parametrize("rank", ["likelihood", "consistency"])
def test_consistent_results_are_pythons(model: CModel, pipe: Pipeline, photographs: Path, rank: Any) -> None:
    """Images may differ in a few bytes. So the likelihood is compared with Python's score of the C++ image."""
    conditions = [photograph(photographs, number, height, 30) for number, height in ((2, 20), (4, 17))]
    ours = {"rank": CONSISTENCY if rank == "consistency" else LIKELIHOOD_RANK, "consistent": 1}
    best = pipe.best_of(conditions, n=3, rank=rank, consistent=True)
    samples = pipe.sample(conditions[:1], n=2, rank=rank, consistent=True)
    assert best.consistency is not None
    assert samples.consistency is not None
    results = model.best_of(conditions, samples=3, **ours) + model.sample(conditions[:1], samples=2, **ours)
    expected = [*zip(best.images, best.sample, best.consistency, strict=True)]
    expected += zip(samples.images[0], samples.sample[0], samples.consistency[0], strict=True)
    for result, (image, number, measured) in zip(results, expected, strict=True):
        assert result.rgb is not None
        per_level = pipe.score(result.rgb, conditions[result.image]).per_level[0]
        check_equal(result, image, per_level, SCORED_APART)
        assert result.sample == number
        assert result.consistency == pytest.approx(measured, abs=0.01)
        assert result.consistency > 50


@pytest.mark.parametrize(
    ("noise", "ours"),
    [
        ("fixed", {"noise": FIXED}),
        ("fresh", {"noise": FRESH}),
        (0.9, {"noise": DRIFTING, "persistence": 0.9}),
    ],
)
def test_frames_of_a_video_are_pythons(
    model: CModel, pipe: Pipeline, photographs: Path, noise: Any, ours: dict[str, Any]
) -> None:
    first, second = (photograph(photographs, number, 60, 80) for number in (6, 3))
    frames = [np.ascontiguousarray(first[k : k + 24, 2 * k : 2 * k + 32]) for k in range(6)]
    frames += [np.ascontiguousarray(second[k : k + 24, :32]) for k in range(3)]
    frames += [np.ascontiguousarray(second[k : k + 16, :32]) for k in range(2)]
    results = list(model.stream(frames, **ours, samples=4, rank=CONSISTENCY))
    expected = list(pipe.stream(frames, n=4, rank="consistency", noise=noise))
    assert [k for k, frame in enumerate(expected) if frame.starts_scene] == [0, 6, 9]
    for frame, result in zip(expected, results, strict=True):
        assert (result.image, result.sample, result.starts_scene) == (frame.number, frame.sample, frame.starts_scene)
        check_equal(result, frame.image, frame.per_level)


def test_a_frame_without_a_finite_sample_is_the_input_enlarged(
    model: CModel, pipe: Pipeline, photographs: Path
) -> None:
    frames = [photograph(photographs, number, 24, 32) for number in (0, 1)]
    expected = list(pipe.stream(frames, temperature=1e30))
    for frame, result in zip(expected, model.stream(frames, temperature=1e30, flags=WITH_PIXELS), strict=True):
        assert frame.rejected
        assert result.rejected == 10  # the default number of samples
        assert result.sample == NO_SAMPLE
        assert np.isnan(result.log_likelihood)
        assert result.rgb is not None
        assert (result.rgb != frame.image).mean() <= 1 - EQUAL_BYTES
        assert result.pixels is not None
        np.testing.assert_allclose(result.pixels, frame.pixels, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.usefixtures("onnxruntime_cuda")
@pytest.mark.parametrize("backend", ["cuda", "tensorrt-provider"])
def test_gpus_give_what_pythons_cpu_gives(built_cpp: Path, pipe: Pipeline, photographs: Path, backend: str) -> None:
    """Requires the library of onnxruntime-gpu. Engines are tested in test_cpp_engines.py."""
    check_provider(backend)
    condition = photograph(photographs, 7, 24, 32)
    best = pipe.best_of(condition, n=3)
    with CModel(built_cpp / "libcaflow.so", TINY, backend=backend.encode()) as model:
        (result,) = model.best_of([condition], samples=3)
    assert result.rgb is not None
    assert (result.rgb != best.images[0]).mean() < 1e-3
    assert result.log_likelihood == pytest.approx(best.log_likelihood[0], rel=1e-5)


def test_rows_that_lie_apart_are_read(model: CModel, photographs: Path) -> None:
    whole = photograph(photographs, 0, 16, 40)
    (apart,), (together,) = (model.best_of([image], samples=1) for image in (whole[:, :16], whole[:, :16].copy()))
    np.testing.assert_array_equal(apart.rgb, together.rgb)


def test_errors_say_what_was_wanted(built_cpp: Path, model: CModel, tmp_path: Path, photographs: Path) -> None:
    with pytest.raises(CError, match=r"no manifest\.json") as refused:
        CModel(built_cpp / "libcaflow.so", tmp_path)
    assert refused.value.status == "bundle"
    copy = Path(shutil.copytree(TINY, tmp_path / "broken.caflow"))
    with (copy / "weights.bin").open("r+b") as file:
        file.write(b"broken")
    with pytest.raises(CError, match=r"weights\.bin: the file is damaged: expected SHA-256"):
        CModel(built_cpp / "libcaflow.so", copy)
    condition = photograph(photographs, 0, 16, 16)
    for wrong, message in (
        ({"samples": 4, "keep": [4, 5]}, "keep must have 2 numbers of samples"),
        ({"temperature": -1.0}, "temperature"),
        ({"rank": 7}, "rank must be one of"),
        ({"flags": 64}, "flags"),
    ):
        with pytest.raises(CError, match=message) as refused:
            model.best_of([condition], **wrong)
        assert refused.value.status == "input"
    with pytest.raises(CError, match=r"sample 0 of images\[0\] is not finite") as refused:
        model.sample([condition], temperature=1e30, samples=1)
    assert refused.value.status == "not finite"
    with pytest.raises(CError, match="must be 4 times as long"):
        model.score([condition], [condition])


C_MAIN = """
#include <caflow/caflow.h>
#include <stdio.h>

int main(void) {{
    unsigned char rgb[4 * 4 * 3] = {{0}};
    size_t height = 4, width = 4;
{example}
    return 0;
}}
"""
CPP_MAIN = """
#include <caflow/caflow.hpp>
#include <iostream>

int main() {{
    const std::vector<std::uint8_t> pixels(4 * 4 * 3);
    const std::uint8_t* rgb = pixels.data();
    const std::size_t height = 4, width = 4;
{example}
}}
"""
APPLICATION = """
cmake_minimum_required(VERSION 3.25)
project(application LANGUAGES C CXX)
{find}
file(GLOB sources *.c *.cpp)
foreach(source ${{sources}})
    cmake_path(GET source STEM name)
    add_executable(${{name}} ${{source}})
    target_link_libraries(${{name}} PRIVATE caflow::caflow)
    target_compile_features(${{name}} PRIVATE c_std_99 cxx_std_17)
    target_compile_options(${{name}} PRIVATE -Wall -Wextra -Werror -pedantic)
endforeach()
"""


def usage(header: str, prefix: str) -> str:
    """Return the example in the first comment of a header."""
    text = (SOURCE / "include" / "caflow" / header).read_text()
    return "\n".join(line.removeprefix(prefix) for line in text.splitlines() if line.startswith(f"{prefix}    "))


def documented_programs(page: Path) -> list[str]:
    """Return the C++ programs of a page of the documentation."""
    return re.findall(r"^```cpp\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def check_application(folder: Path, find: str, *options: str) -> None:
    """Build and run programs outside the source tree: the examples of the headers and of the documentation."""
    folder.mkdir()
    (folder / "in_c.c").write_text(C_MAIN.format(example=usage("caflow.h", " *")))
    (folder / "in_cpp.cpp").write_text(CPP_MAIN.format(example=usage("caflow.hpp", "//")))
    programs = documented_programs(ROOT / "docs" / "guides" / "cpp.md")
    for number, program in enumerate(programs):
        (folder / f"documented_{number}.cpp").write_text(program)
    (folder / "CMakeLists.txt").write_text(APPLICATION.format(find=find))
    run("cmake", "-S", folder, "-B", folder / "build", *options)
    run("cmake", "--build", folder / "build", "--parallel", "2")
    in_c, in_cpp = (run(folder / "build" / name) for name in ("in_c", "in_cpp"))
    assert in_c.startswith("16 x 16, ")
    assert float(in_cpp.split()[3]) == pytest.approx(float(in_c.split()[3]), rel=1e-4)
    assert len(programs) == 2
    for number in range(len(programs)):
        assert run(folder / "build" / f"documented_{number}").startswith("64")


def test_a_model_may_be_opened_by_a_relative_path(
    built_cpp: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs are loaded after the working directory has changed."""
    monkeypatch.chdir(TINY.parent)
    with CModel(built_cpp / "libcaflow.so", Path(TINY.name), backend=b"cpu") as model:
        monkeypatch.chdir(tmp_path)
        model.best_of([photograph(photographs, 0, 8, 8)], samples=1)


@pytest.mark.parametrize("name", ["weights.bin", "encode.onnx", "likelihood_1.onnx"])
def test_a_file_that_changes_before_it_is_read_is_named(
    built_cpp: Path, photographs: Path, tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(TINY, tmp_path / "model.caflow"))
    condition = photograph(photographs, 0, 8, 8)
    target = np.repeat(np.repeat(condition, 4, 0), 4, 1)
    with CModel(built_cpp / "libcaflow.so", folder, backend=b"cpu") as model:
        if name == "likelihood_1.onnx":
            model.best_of([condition], samples=1)  # does not load this graph
        good = (folder / name).read_bytes()
        (folder / name).write_bytes(bytes(value ^ 1 for value in good) if name == "weights.bin" else good[:-100])
        changed = rf"{name}: the file has changed since the bundle was opened: .*: open the bundle again"
        with pytest.raises(CError, match=changed) as refused:
            model.score([target], [condition])
        assert refused.value.status == "bundle"
        (folder / name).write_bytes(good)
        model.score([target], [condition])


def test_weights_that_change_between_two_graphs_are_named(built_cpp: Path, photographs: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(TINY, tmp_path / "model.caflow"))
    condition = photograph(photographs, 0, 8, 8)
    with CModel(built_cpp / "libcaflow.so", folder, backend=b"cpu") as model:
        (best,) = model.best_of([condition], samples=1)
        assert best.rgb is not None
        (tmp_path / "new.bin").write_bytes(bytes((folder / "weights.bin").stat().st_size))
        (tmp_path / "new.bin").replace(folder / "weights.bin")
        with pytest.raises(CError, match=r"weights\.bin: .*: open the bundle again"):
            model.score([best.rgb], [condition])


def test_a_folder_for_engines_that_cannot_be_made_is_named(built_cpp: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = str(tmp_path / "file" / "engines").encode()
    refusal = r"engine_cache: cannot create the folder .*/file/engines/.*: Not a directory: choose a folder"
    with pytest.raises(CError, match=refusal) as refused:
        CModel(built_cpp / "libcaflow.so", TINY, backend=b"tensorrt-provider", engine_cache=cache)
    assert refused.value.status == "input"


def test_an_application_finds_the_installed_library(built_cpp: Path, tmp_path: Path) -> None:
    run("cmake", "--install", built_cpp, "--prefix", tmp_path / "installed")
    moved = (tmp_path / "installed").rename(tmp_path / "moved")
    check_application(tmp_path / "application", "find_package(caflow 0.1 REQUIRED)", f"-DCMAKE_PREFIX_PATH={moved}")


@pytest.mark.full
def test_an_application_finds_the_static_library(cpp_test_data: Path, tmp_path: Path) -> None:
    static = build(
        tmp_path / "static", cpp_test_data, "-DBUILD_SHARED_LIBS=OFF", "-DCAFLOW_TESTS=OFF", "-DCAFLOW_EXAMPLES=OFF"
    )
    run("cmake", "--install", static, "--prefix", tmp_path / "installed")
    prefix = f"-DCMAKE_PREFIX_PATH={tmp_path / 'installed'}"
    check_application(tmp_path / "application", "find_package(caflow 0.1 REQUIRED)", prefix)


@pytest.mark.full
def test_an_application_holds_the_source(tmp_path: Path) -> None:
    check_application(
        tmp_path / "application",
        f"add_subdirectory({SOURCE} caflow)",
        f"-DCAFLOW_ONNXRUNTIME_LIBRARY={library_of_the_wheel()}",
        *with_tensorrt(),
    )


@pytest.mark.full
def test_another_version_of_onnx_runtime_agrees(cpp_test_data: Path, pipe: Pipeline, photographs: Path) -> None:
    """The build uses the ONNX Runtime of the system, not that of the Python package."""
    folder = build(
        BUILD.with_name("cpp-system"),
        cpp_test_data,
        "-DCAFLOW_ONNXRUNTIME_LIBRARY=",
        "-DCAFLOW_TENSORRT=OFF",
        "-DCAFLOW_TESTS=OFF",
        "-DCAFLOW_EXAMPLES=OFF",
    )
    condition = photograph(photographs, 9, 30, 40)
    best = pipe.best_of(condition, n=4)
    with CModel(folder / "libcaflow.so", TINY, backend=b"cpu") as model:
        (result,) = model.best_of([condition], samples=4)
    check_equal(result, best.images[0], best.per_level[0], LIKELIHOOD_ACROSS_VERSIONS)


@pytest.mark.full
@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_sanitizers_find_nothing(cpp_test_data: Path, sanitizers: str) -> None:
    folder = build(
        BUILD.with_name(f"cpp-{sanitizers.replace(',', '-')}"),
        cpp_test_data,
        f"-DCAFLOW_SANITIZE={sanitizers}",
        "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
        "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g",
        "-DCAFLOW_EXAMPLES=OFF",
    )
    run("ctest", "--output-on-failure", "-LE", "long", cwd=folder)


@pytest.mark.full
def test_a_thousand_calls_do_not_grow_memory(built_cpp: Path) -> None:
    run("ctest", "--output-on-failure", "-R", "growth", cwd=built_cpp)


CLANG = next((name for name in ("clang++", "clang++-19", "clang++-14") if shutil.which(name)), None)


@pytest.mark.full
@pytest.mark.skipif(CLANG is None, reason="not installed (.ci/packages): clang")
def test_the_fuzzer_finds_nothing(cpp_test_data: Path) -> None:
    assert CLANG is not None
    folder = build(
        BUILD.with_name("cpp-fuzz"),
        cpp_test_data,
        f"-DCMAKE_CXX_COMPILER={CLANG}",
        "-DCAFLOW_FUZZ=ON",
        "-DCAFLOW_TENSORRT=OFF",
        "-DCAFLOW_FUZZ_SECONDS=20",
        target="fuzz_manifest",
    )
    run("ctest", "--output-on-failure", "-R", "fuzz_manifest", cwd=folder)
