"""Helpers that build the C++ runtime, run its programs, and open a model with its library."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from c_library import CModel
from commands import in_a_process
from tiny import TINY

ROOT = Path(__file__).parents[2]
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
    """Return the programs, or else the headers, that the build requires and that are not installed."""
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
    """Run a command and return its standard output. If it fails, the error shows all of its output.

    Arguments:
        given: text on standard input.
        backend: backend that programs use if they are not told another one.
    """
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if backend == "cpu" else {}  # for programs that choose a backend themselves
    environment = os.environ | {"CAFLOW_BACKEND": backend} | hidden
    done = in_a_process(command, cwd=cwd, input=given, env=environment, timeout=None)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def library_of_the_wheel() -> Path:
    """Return the folder of the Python package ONNX Runtime, which contains its library."""
    import onnxruntime

    return Path(onnxruntime.__file__).parent


QUICKLY = ("-DCMAKE_UNITY_BUILD=ON", "-DCMAKE_UNITY_BUILD_BATCH_SIZE=6")
"""Options of CMake for a fast build. Several files are compiled as one, which takes a third of the time.

In test_cpp_builds.py, the build of an application that contains the source does not use these options. It compiles each
file separately, which finds missing includes."""


def build(folder: Path, data: Path, *options: str, target: str = "all") -> Path:
    """Configure and build in a folder, and return it. Files that are up to date are not built again."""
    run(
        *("cmake", "-S", SOURCE, "-B", folder, f"-DCAFLOW_TEST_DATA={data}", f"-DCAFLOW_BUNDLE={TINY}"),
        *(f"-DCAFLOW_ONNXRUNTIME_LIBRARY={library_of_the_wheel()}", *QUICKLY, *options),
    )
    run("cmake", "--build", folder, "--parallel", "2", "--target", target)
    return folder


@pytest.fixture(scope="module")
def model() -> Iterator[CModel]:
    """The small trained model with its calibration, opened by the C library on the CPU."""
    with CModel(TINY) as model:
        yield model
