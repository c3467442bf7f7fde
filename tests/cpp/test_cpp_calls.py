"""Calls of the C library: what it reads, errors for wrong calls and for files that change, and execution providers."""

import os
import re
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_library import CModel, refused
from commands import caflow_export
from cpp_build import model, run
from tiny import TINY, photograph
from tiny import calibrated_pipe as pipe

from caflow_runtime.pipeline.pipeline import Pipeline

__all__ = ["model", "pipe"]  # fixtures

pytestmark = pytest.mark.usefixtures("built_cpp")


def test_wrong_calls_fail_with_a_status_and_a_message(model: CModel, copied: Path, photographs: Path) -> None:
    with (copied / "weights.bin").open("r+b") as file:
        file.write(b"broken")
    with refused("bundle", r"weights\.bin: the file is damaged: expected SHA-256"):
        CModel(copied)
    condition = photograph(photographs, 0, 16, 16)
    for wrong, message in (({"rank": 7}, "rank must be one of"), ({"flags": 64}, "flags")):
        with refused("input", message):
            model.best_of([condition], **wrong)
    with refused("not finite", r"sample 0 of images\[0\] is not finite"):
        model.sample([condition], temperature=1e30, n=1)


def test_messages_are_utf_8_also_if_names_are_not(tmp_path: Path) -> None:
    with refused("bundle", "name-\N{REPLACEMENT CHARACTER}-é"):
        CModel(tmp_path / os.fsdecode(b"name-\xff-\xc3\xa9"))


def test_a_model_may_be_opened_by_a_relative_path(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs are loaded after the working directory has changed."""
    monkeypatch.chdir(TINY.parent)
    with CModel(Path(TINY.name)) as model:
        monkeypatch.chdir(tmp_path)
        model.best_of([photograph(photographs, 0, 8, 8)], n=1)


@pytest.mark.parametrize(
    ("name", "draws_before"),
    [("weights.bin", False), ("weights.bin", True), ("encode.onnx", False), ("likelihood_1.onnx", True)],
)
def test_a_file_that_changes_before_reading_is_named(
    copied: Path, photographs: Path, name: str, draws_before: bool
) -> None:
    """Drawing does not load the graphs that only scoring needs."""
    condition = photograph(photographs, 0, 8, 8)
    target = np.repeat(np.repeat(condition, 4, 0), 4, 1)
    with CModel(copied) as model:
        if draws_before:
            model.best_of([condition], n=1)
        good = (copied / name).read_bytes()
        (copied / name).write_bytes(bytes(value ^ 1 for value in good) if name == "weights.bin" else good[:-100])
        with refused("bundle", rf"{name}: the file has changed since the bundle was opened: .*: open the bundle again"):
            model.score([target], [condition])
        (copied / name).write_bytes(good)
        model.score([target], [condition])


def test_a_folder_for_engines_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = str(tmp_path / "file" / "engines").encode()
    message = r"engine_cache: cannot create the folder .*/file/engines/.*: Not a directory: choose a folder"
    with refused("input", message):
        CModel(TINY, backend=b"tensorrt", engine_cache=cache)


@pytest.mark.full
def test_a_thousand_calls_do_not_grow_memory(built_cpp: Path) -> None:
    run("ctest", "--output-on-failure", "-R", "growth", cwd=built_cpp)


CPU = Path("/proc/cpuinfo").read_text()
VERSION_WITH_PLUGINS = 23
PLUGINS = {"ort:openvino": "onnxruntime_ep_openvino", "tensorrt-rtx": "onnxruntime_ep_nv_tensorrt_rtx"}
"""Python packages that contain plug-in libraries."""


def version_of_headers(build: Path) -> int:
    """Return the version of ONNX Runtime's interface that a build of the C++ runtime was compiled with."""
    (folder,) = re.findall(r"^OnnxRuntime_INCLUDE_DIR:PATH=(.*)$", (build / "CMakeCache.txt").read_text(), re.MULTILINE)
    (version,) = re.findall(r"#define ORT_API_VERSION (\d+)", (Path(folder) / "onnxruntime_c_api.h").read_text())
    return int(version)


def plugin_options(build: Path, backend: str) -> dict[str, Any]:
    """Return the option that names the plug-in library of a backend, if it needs one, or skip the test."""
    if backend not in PLUGINS:
        return {}
    package = pytest.importorskip(PLUGINS[backend])
    if version_of_headers(build) < VERSION_WITH_PLUGINS:
        pytest.skip("the headers of ONNX Runtime are older than 1.23, so the C++ runtime cannot load plug-ins")
    return {"plugin_library": package.get_library_path().encode()}


def check_results(model: CModel, pipe: Pipeline, photographs: Path) -> None:
    """Check that samples, scores and frames are those of Python on the CPU."""
    condition = photograph(photographs, 7, 24, 32)
    best = pipe.best_of(condition, n=3)
    (result,) = model.best_of([condition], n=3)
    assert result.sample == best.sample[0]
    assert (result.rgb != best.images[0]).mean() < 1e-3
    assert result.log_likelihood == pytest.approx(best.log_likelihood[0], rel=1e-5)
    (result,) = model.best_of([condition], n=3, rank="consistency")
    consistent: Any = pipe.best_of(condition, n=3, rank="consistency")
    assert result.consistency == pytest.approx(consistent.consistency[0], abs=0.01)
    (scored,) = model.score([best.images[0]], [condition])
    assert scored.log_likelihood == pytest.approx(pipe.score(best.images, condition).log_likelihood[0], rel=1e-5)
    frames = [condition, np.ascontiguousarray(condition[:, ::-1])]
    for frame, drawn in zip(pipe.stream(frames, n=2), model.stream(frames, n=2), strict=True):
        assert (drawn.rgb != frame.image).mean() < 1e-3


@pytest.mark.skipif("GenuineIntel" not in CPU, reason="OpenVINO's plug-in offers no device on other makers' processors")
def test_a_plugin_in_cpp_gives_the_results_of_python(built_cpp: Path, pipe: Pipeline, photographs: Path) -> None:
    options = plugin_options(built_cpp, "ort:openvino")
    with CModel(TINY, backend=b"ort:openvino", **options) as model:
        assert model.info["backend"] == b"onnxruntime ort:openvino"
        check_results(model, pipe, photographs)


@pytest.mark.parametrize("backend", ["ort:openvino:200", "ort:webgpu"])
def test_a_device_that_a_plugin_does_not_offer_is_named(built_cpp: Path, backend: str) -> None:
    options = plugin_options(built_cpp, "ort:openvino")
    with refused("backend", f"the backend {backend} has no device of this number: .* offers "):
        CModel(TINY, backend=backend.encode(), **options)


def test_a_plugin_that_cannot_be_loaded_is_named(built_cpp: Path, tmp_path: Path) -> None:
    path = tmp_path / "no plug-in.so"
    path.write_bytes(b"no library")
    too_old = version_of_headers(built_cpp) < VERSION_WITH_PLUGINS
    message = "built with headers of ONNX Runtime 1.23 or newer" if too_old else r"cannot load .*no plug-in\.so"
    with refused("backend", f"the backend tensorrt-rtx .*{message}"):
        CModel(TINY, backend=b"tensorrt-rtx", plugin_library=str(path).encode())


@pytest.mark.gpu
@pytest.mark.parametrize("with_engines", [False, True])
@pytest.mark.parametrize("backend", ["cuda", "tensorrt", "tensorrt-rtx"])
def test_a_gpu_in_cpp_gives_the_results_of_python_on_the_cpu(
    built_cpp: Path, pipe: Pipeline, photographs: Path, tmp_path: Path, backend: str, with_engines: bool
) -> None:
    """`cuda` and `tensorrt` require the library of onnxruntime-gpu, and `tensorrt` requires TensorRT 10."""
    options = plugin_options(built_cpp, backend)
    if backend == "tensorrt" and find_library("nvinfer") is None:
        pytest.skip("TensorRT is not installed")
    bundle = TINY
    if with_engines:
        if backend == "cuda":
            pytest.skip("CUDA has no engines")
        bundle = tmp_path / "model.caflow"
        caflow_export(TINY, "-o", bundle, "--trt", "fp32")
    cache = str(tmp_path / "cache").encode()
    with CModel(bundle, backend=backend.encode(), engine_cache=cache, **options) as model:
        check_results(model, pipe, photographs)
