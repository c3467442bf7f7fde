"""How tests build the C++ runtime and run its programs."""

import os
import shutil
import subprocess
import sys
from ctypes.util import find_library
from functools import cache
from pathlib import Path

import pytest
from tiny import TINY

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "runtime" / "cpp"
BUILD = ROOT / "build" / "cpp"

HEADERS = (
    "onnxruntime/onnxruntime_cxx_api.h",
    "nlohmann/json.hpp",
    "openssl/evp.h",
    "doctest/doctest.h",
    "opencv4/opencv2/videoio.hpp",
)


def what_is_missing() -> list[str]:
    """Of what the build needs."""
    missing = [program for program in ("cmake", "c++", "cc") if shutil.which(program) is None]
    if missing:
        return missing
    probe = "\n".join(f"#if !__has_include(<{name}>)\nmissing {name}\n#endif" for name in HEADERS)
    found = subprocess.run(
        ["c++", "-E", "-P", "-x", "c++", "-"], input=probe, capture_output=True, text=True, check=True
    )
    return found.stdout.split()


MISSING = what_is_missing()


def run(*command: str | Path, cwd: Path = ROOT, given: str | None = None, backend: str = "cpu") -> str:
    """What a command prints; all of it where it fails. Programs use that backend."""
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if backend == "cpu" else {}  # also from programs that choose for themselves
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"CAFLOW_BACKEND": backend} | hidden,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def library_of_the_wheel() -> Path:
    """The folder of ONNX Runtime in this environment."""
    import onnxruntime

    return Path(onnxruntime.__file__).parent


QUICKLY = ("-DCMAKE_UNITY_BUILD=ON", "-DCMAKE_UNITY_BUILD_BATCH_SIZE=6", "-DCMAKE_CUDA_ARCHITECTURES=75")
"""Compiles several files as one, which takes a third of the time, and for one architecture of GPUs, whose code newer
ones can run, too. The build of an application that holds the source (test_cpp.py) compiles each file alone, so that
none misses a header, and for all architectures."""


def build(folder: Path, data: Path, *options: str, target: str = "all") -> Path:
    """Configure and build, with TensorRT where that can be had; what is up to date there is kept."""
    run(
        *("cmake", "-S", SOURCE, "-B", folder, f"-DCAFLOW_TEST_DATA={data}", f"-DCAFLOW_BUNDLE={TINY}"),
        *(f"-DCAFLOW_ONNXRUNTIME_LIBRARY={library_of_the_wheel()}", *with_tensorrt(), *QUICKLY, *options),
    )
    run("cmake", "--build", folder, "--parallel", "2", "--target", target)
    return folder


def with_tensorrt() -> list[str]:
    """Options of CMake."""
    headers = headers_of_tensorrt()
    return ["-DCAFLOW_TENSORRT=OFF"] if headers is None else ["-DCAFLOW_TENSORRT=ON", f"-DTensorRT_ROOT={headers}"]


def check_provider(backend: str) -> None:
    """Skips where ONNX Runtime's provider of that name lacks a library."""
    if backend == "tensorrt-provider" and find_library("nvinfer") is None:
        pytest.skip("no TensorRT in the system's libraries: ONNX Runtime's provider wants libnvinfer.so.10")


HEADERS_OF_TENSORRT = (
    "kernel-lens==2.0.1 --hash=sha256:07cc714e8b5e7f34b672f7c7fad93febe7c747be5837ba276b1527370134ffe0"
)
"""A package that carries NVIDIA's (10.14, Apache-2.0): its own packages have none. Tests compile with them."""


@cache
def headers_of_tensorrt() -> Path | None:
    """The folder of TensorRT's headers, TENSORRT_ROOT or a package's; None without them or a CUDA toolkit."""
    if shutil.which("nvcc") is None:
        return None
    if "TENSORRT_ROOT" in os.environ:
        return Path(os.environ["TENSORRT_ROOT"])
    folder = ROOT / "build" / "tensorrt"
    headers = folder / "kernel_lens" / "include" / "tensorrt"
    if not headers.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        wanted = folder / "requirements.txt"
        wanted.write_text(HEADERS_OF_TENSORRT)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*pip, "--target", str(folder), "--requirement", str(wanted)], check=False)
    return headers if headers.is_dir() else None
