"""The C++ runtime with TensorRT: compiled with its headers, its refusals, and engines at work on a GPU."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from c_library import CError, CModel
from conftest import photograph
from cpp_build import BUNDLE, headers_of_tensorrt, run
from test_engines import MAX_ROWS, with_engines

from caflow_export.export import ExportReport
from caflow_runtime import engines
from caflow_runtime.gpu import first_gpu
from caflow_runtime.images import read_image, write_image
from caflow_runtime.pipeline import Pipeline, load


@pytest.fixture(scope="module")
def with_tensorrt(built_cpp: Path) -> Path:
    """The build folder."""
    if headers_of_tensorrt() is None:
        pytest.skip("built without TensorRT: no CUDA toolkit, or no headers (set TENSORRT_ROOT)")
    return built_cpp


@pytest.mark.skipif(first_gpu() is not None, reason="there is a GPU")
def test_engines_want_a_gpu(with_tensorrt: Path) -> None:
    with pytest.raises(
        CError, match=r"wanted an NVIDIA GPU, but none can be used \(.+\): install its driver"
    ) as refused:
        CModel(with_tensorrt / "libcaflow.so", BUNDLE, backend=b"tensorrt")
    assert refused.value.status == "backend"


@pytest.fixture(scope="module")
def bundle(exported: ExportReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With engines for the GPU here, of the flavor of the headers."""
    folder = with_engines(exported.path, tmp_path_factory.mktemp("engines") / "model.caflow")
    (found,) = engines.find(folder)
    assert found.engines is not None
    headers = headers_of_tensorrt()
    assert headers is not None
    is_rtx = "TRT_MAJOR_RTX" in (headers / "NvInferVersion.h").read_text()
    if is_rtx != (found.engines.flavor == "rtx"):
        pytest.skip(f"the headers are not those of the engines, {found.folder.name}: set TENSORRT_ROOT")
    return folder


@pytest.fixture(scope="module")
def pipe(exported: ExportReport) -> Iterator[Pipeline]:
    with load(exported.path, backend="cpu") as pipe:
        yield pipe


@pytest.mark.gpu
def test_engines_give_what_pythons_cpu_gives(
    with_tensorrt: Path, bundle: Path, pipe: Pipeline, photographs: Path
) -> None:
    conditions = [photograph(photographs, k, height, width) for k, (height, width) in enumerate([(8, 8), (13, 20)])]
    with CModel(with_tensorrt / "libcaflow.so", bundle, backend=b"tensorrt") as model:
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


@pytest.mark.gpu
def test_the_examples_run_on_engines(
    with_tensorrt: Path, bundle: Path, pipe: Pipeline, photographs: Path, tmp_path: Path
) -> None:
    examples = with_tensorrt / "examples"
    condition = photograph(photographs, 7, 24, 32)
    write_image(tmp_path / "small.png", condition)
    run(examples / "upscale_image", bundle, "small.png", "large.png", "3", cwd=tmp_path, backend="tensorrt")
    large = read_image(tmp_path / "large.png").rgb
    assert (large != pipe.best_of(condition, n=3).images[0]).mean() < 1e-3
    scored = run(examples / "score_pairs", bundle, cwd=tmp_path, given="large.png small.png\n", backend="tensorrt")
    assert "log_likelihood" in scored
    writer = cv2.VideoWriter(str(tmp_path / "small.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 24))
    for _ in range(5):
        writer.write(np.ascontiguousarray(condition[..., ::-1]))
    writer.release()
    upscale = (examples / "upscale_video", bundle, "small.avi", "large.avi", "3")
    assert run(*upscale, cwd=tmp_path, backend="tensorrt").startswith("5 frames")
