"""The C++ runtime with TensorRT: the error without a GPU, tests on fakes, and engines on a GPU."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from c_library import CError, CModel
from cpp_build import headers_of_tensorrt, run
from test_engines import MAX_ROWS, with_engines
from tiny import TINY, photograph

from caflow_runtime.backends.gpu import first_gpu
from caflow_runtime.bundle import engine_sets as engines
from caflow_runtime.pipeline.pipeline import Pipeline, load

WITHOUT = "the C++ runtime was built without TensorRT: no CUDA toolkit, or no headers (set TENSORRT_ROOT)"


@pytest.mark.skipif(first_gpu() is not None, reason="tests the error without a GPU, but there is a GPU")
def test_engines_want_a_gpu(built_cpp: Path) -> None:
    if headers_of_tensorrt() is None:
        pytest.skip(WITHOUT)
    with pytest.raises(
        CError, match=r"requires an NVIDIA GPU, but none can be used \(.+\): install an NVIDIA driver"
    ) as refused:
        CModel(built_cpp / "libcaflow.so", TINY, backend=b"tensorrt")
    assert refused.value.status == "backend"


def test_the_gpu_code_works_on_fakes(built_cpp: Path) -> None:
    """Whole models run on fakes of CUDA and TensorRT, which check that the libraries are used correctly.

    The fakes cannot show accuracy, speed, real concurrency, or undocumented behaviour of the real libraries: see
    `runtime/cpp/tests/fakes/README.md`.
    """
    if headers_of_tensorrt() is None:
        pytest.skip(WITHOUT)
    run("ctest", "--output-on-failure", "--no-tests=error", "-L", "fakes", "-LE", "long", cwd=built_cpp)


@pytest.mark.full
def test_each_call_of_the_gpu_code_may_fail(built_cpp: Path) -> None:
    """Every call fails once. The result must be correct, or a clear error, and everything must be freed.

    With the fakes, the failing call itself returns the error. A real GPU may report an error at a later call.
    """
    if headers_of_tensorrt() is None:
        pytest.skip(WITHOUT)
    run("ctest", "--output-on-failure", "--no-tests=error", "-R", "gpu_failures", cwd=built_cpp)


def with_engines_of_the_headers(bundle: Path, folder: Path) -> Path:
    """Return a copy of a bundle with engines for the local GPU.

    Skip the test if the C++ runtime was built for another flavor of engines.
    """
    headers = headers_of_tensorrt()
    if headers is None:
        pytest.skip(WITHOUT)
    (found,) = engines.find(with_engines(bundle, folder))
    assert found.engines is not None
    is_rtx = "TRT_MAJOR_RTX" in (headers / "NvInferVersion.h").read_text()
    if is_rtx != (found.engines.flavor == "rtx"):
        pytest.skip(f"TensorRT's headers do not match the engines {found.folder.name}: set TENSORRT_ROOT")
    return folder


@pytest.fixture(scope="module")
def bundle(uncalibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_engines_of_the_headers(uncalibrated, tmp_path_factory.mktemp("engines") / "model.caflow")


@pytest.fixture(scope="module")
def pipe(uncalibrated: Path) -> Iterator[Pipeline]:
    with load(uncalibrated, backend="cpu") as pipe:
        yield pipe


@pytest.mark.gpu
def test_engines_give_what_pythons_cpu_gives(built_cpp: Path, bundle: Path, pipe: Pipeline, photographs: Path) -> None:
    conditions = [photograph(photographs, k, height, width) for k, (height, width) in enumerate([(8, 8), (13, 20)])]
    with CModel(built_cpp / "libcaflow.so", bundle, backend=b"tensorrt") as model:
        for options in (
            {"n": 4},
            {"n": 4, "seed": 1},
            {"n": 4, "seed": 2},
            {"n": 2 * MAX_ROWS + 1},
            {"n": 4, "keep": [4, 2]},
        ):
            best = pipe.best_of(conditions, **options)
            ours = {"samples" if name == "n" else name: value for name, value in options.items()}
            for k, result in enumerate(model.best_of(conditions, **ours)):
                assert result.rgb is not None
                assert result.sample == best.sample[k]
                assert (result.rgb != best.images[k]).mean() < 1e-3
                assert result.log_likelihood == pytest.approx(best.log_likelihood[k], rel=1e-5)
        targets = list(best.images)
        scores = pipe.score(targets, conditions)
        for k, result in enumerate(model.score(targets, conditions)):
            assert result.log_likelihood == pytest.approx(scores.log_likelihood[k], rel=1e-5)
