"""Builds of the C++ runtime: its tests, sanitizers, a fuzzer, examples, and applications outside the source tree."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import pixels_of
from commands import in_a_process
from cpp_build import BUILD, MISSING, SOURCE, build, library_of_the_wheel, run
from documentation import blocks
from tiny import TINY, photograph

from caflow_deploy.images.image_files import read_image, write_image
from caflow_runtime.bundle import builtin
from caflow_runtime.image_arrays import Image
from caflow_runtime.pipeline.pipeline import load

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed (.ci/packages): {' '.join(MISSING)}")


def test_the_tests_of_the_cpp_runtime_pass(built_cpp: Path) -> None:
    run("ctest", "--output-on-failure", "-LE", "long", cwd=built_cpp)


@pytest.mark.skipif(not Path("/usr/share/i18n/locales").is_dir(), reason="not installed (.ci/packages): locales")
def test_the_tests_of_the_cpp_runtime_pass_in_a_locale_with_decimal_commas(
    built_cpp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("localedef", "-i", "de_DE", "-f", "UTF-8", tmp_path / "de_DE.UTF-8")
    monkeypatch.setenv("LOCPATH", str(tmp_path))
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    run("ctest", "--output-on-failure", "-R", "^(bundle|judge|model)$", cwd=built_cpp)


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


def check_application(folder: Path, find: str, *options: str) -> None:
    """Build and run programs outside the source tree: the examples of the headers and of the documentation."""
    folder.mkdir()
    (folder / "in_c.c").write_text(C_MAIN.format(example=usage("caflow.h", " *")))
    (folder / "in_cpp.cpp").write_text(CPP_MAIN.format(example=usage("caflow.hpp", "//")))
    programs = [block.code for block in blocks("cpp", ("docs/guides/cpp.md",))]
    for number, program in enumerate(programs):
        (folder / f"documented_{number}.cpp").write_text(program)
    (folder / "CMakeLists.txt").write_text(APPLICATION.format(find=find))
    run("cmake", "-S", folder, "-B", folder / "build", *options)
    run("cmake", "--build", folder / "build", "--parallel", "2")
    in_c, in_cpp = (run(folder / "build" / name) for name in ("in_c", "in_cpp"))
    assert in_c.startswith("16 x 16, ")
    assert float(in_cpp.split()[3]) == pytest.approx(float(in_c.split()[3]), rel=1e-4)
    assert len(programs) == 3
    for number in range(len(programs)):
        assert run(folder / "build" / f"documented_{number}").startswith("64")
    elsewhere = in_a_process([folder / "build" / "documented_0"], cwd=folder)
    assert elsewhere.returncode == 1
    assert elsewhere.stderr.startswith("models/x4-photo.caflow")


def test_an_application_finds_the_installed_library(built_cpp: Path, tmp_path: Path) -> None:
    run("cmake", "--install", built_cpp, "--prefix", tmp_path / "installed")
    moved = (tmp_path / "installed").rename(tmp_path / "moved")
    check_application(tmp_path / "application", "find_package(caflow 0.1 REQUIRED)", f"-DCMAKE_PREFIX_PATH={moved}")


WITH_OPENCV = """
#include <caflow/opencv.hpp>
#include <iostream>

template <class Function>
void refuse(Function function) {
    try {
        function();
    } catch (const caflow::InputError& error) {
        std::cout << error.what() << std::endl;
    }
}

int main(int, char** arguments) {
    caflow::OpenOptions open;
    open.overlap = CAFLOW_NO_OVERLAP;
    caflow::DrawOptions draw;
    draw.redraws = CAFLOW_NO_REDRAWS;
    const caflow::Model model(arguments[1], open);
    const cv::Mat whole(9, 8, CV_8UC3, cv::Scalar(200, 100, 50)), part = whole(cv::Rect(1, 2, 4, 5));
    const caflow::Results drawn = model.best_of(caflow::view(part), draw);
    const cv::Mat large = caflow::mat(drawn[0]);
    const cv::Scalar mean = cv::mean(large);
    std::cout << large.cols << "x" << large.rows << (mean[0] > mean[2] ? ", red" : ", blue") << std::endl;
    refuse([] { caflow::view(cv::Mat()); });
    refuse([] { caflow::view(cv::Mat(4, 4, CV_32FC1)); });
    refuse([&] { model.best_of(caflow::view(cv::Mat(4, 4, CV_8UC4))); });
    refuse([&] { caflow::mat(model.score(caflow::view(large), caflow::view(part))[0]); });
}
"""


def test_images_of_opencv_are_read_and_returned(built_cpp: Path, tmp_path: Path) -> None:
    (tmp_path / "main.cpp").write_text(WITH_OPENCV)
    strict = ["-std=c++17", "-Wall", "-Wextra", "-Wconversion", "-Wold-style-cast", "-Werror"]
    headers = [f"-I{SOURCE / 'include'}", "-isystem", "/usr/include/opencv4"]
    libraries = [f"-L{built_cpp}", f"-Wl,-rpath,{built_cpp}", "-lcaflow", "-lopencv_core"]
    run("c++", *strict, *headers, "main.cpp", "-o", "program", *libraries, cwd=tmp_path)
    size, empty, floats, masked, scored = run(tmp_path / "program", TINY).splitlines()
    assert size == "16x20, red"
    assert empty == "rgb: the cv::Mat is empty: check that OpenCV could read the image"
    assert "got 2 dimensions and type CV_32FC1" in floats
    assert "must have 3 channels, RGB; got 4" in masked
    assert "a scored image has no pixels" in scored


@pytest.mark.full
def test_an_application_finds_the_static_library(cpp_test_data: Path, tmp_path: Path) -> None:
    static = build(
        tmp_path / "static", cpp_test_data, "-DBUILD_SHARED_LIBS=OFF", "-DCAFLOW_TESTS=OFF", "-DCAFLOW_EXAMPLES=OFF"
    )
    run("cmake", "--install", static, "--prefix", tmp_path / "installed")
    prefix = f"-DCMAKE_PREFIX_PATH={tmp_path / 'installed'}"
    check_application(tmp_path / "application", "find_package(caflow 0.1 REQUIRED)", prefix)


@pytest.mark.full
def test_an_application_builds_the_runtime_from_its_source(tmp_path: Path) -> None:
    check_application(
        tmp_path / "application",
        f"add_subdirectory({SOURCE} caflow)",
        f"-DCAFLOW_ONNXRUNTIME_LIBRARY={library_of_the_wheel()}",
    )


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
        "-DCAFLOW_FUZZ_SECONDS=20",
        target="fuzz_manifest",
    )
    run("ctest", "--output-on-failure", "-R", "fuzz_manifest", cwd=folder)


BUNDLE = builtin.find_bundle(builtin.DEFAULT)
SIDES = (24, 32)


def write_video(path: Path, frame: Image, count: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, SIDES[::-1])
    for _ in range(count):
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()


def test_the_example_programs_give_the_results_of_python(built_cpp: Path, photographs: Path, tmp_path: Path) -> None:
    pipe = load(BUNDLE, backend="cpu")

    def run_example(name: str, *arguments: str, given: str | None = None) -> str:
        program = built_cpp / "examples" / name
        return run(program, BUNDLE, *arguments, cwd=tmp_path, given=given)

    condition = photograph(photographs, 7, *SIDES)
    write_image(tmp_path / "small.png", condition)
    run_example("upscale_image", "small.png", "large.png", "3")
    large = read_image(tmp_path / "large.png").rgb
    difference = np.abs(large.astype(int) - pipe.best_of(condition, n=3).images[0])
    assert (difference > 0).mean() <= 1e-4

    lines = run_example("score_pairs", given="large.png small.png\n" * 2).splitlines()
    assert len(lines) == 2
    scored = json.loads(lines[0])
    assert scored["target"] == "large.png"
    assert scored["log_likelihood"] == pytest.approx(pipe.score(large, condition).log_likelihood[0], rel=1e-6)

    pairs = "large.png small.png\nnoise.png small.png\n"
    write_image(tmp_path / "noise.png", np.random.default_rng(0).integers(0, 256, large.shape, np.uint8))
    good, noise = (json.loads(line) for line in run_example("score_pairs", "0.01", given=pairs).splitlines())
    assert (good["verdict"], noise["verdict"]) == ("accepted", "rejected")
    assert good["reason"] == ""
    assert "standard deviations" in noise["reason"]

    write_video(tmp_path / "small.avi", condition, 5)
    assert run_example("upscale_video", "small.avi", "large.avi", "3") == "5 frames of 1 scene\n"
    frames = pixels_of(tmp_path / "large.avi", 4 * SIDES[0], 4 * SIDES[1])
    assert len(frames) == 5
    for frame in frames:
        assert np.abs(frame.astype(int) - large).mean() < 6  # the input and the output are compressed as MJPEG


@pytest.mark.parametrize("arguments", [["-1"], ["abc"], ["2.5"], ["3", "warm"]])
def test_the_example_programs_refuse_arguments_that_are_no_numbers(
    built_cpp: Path, tmp_path: Path, arguments: list[str]
) -> None:
    write_image(tmp_path / "small.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(AssertionError, match=f"expected a number.*; got {arguments[-1]}"):
        run(built_cpp / "examples" / "upscale_image", BUNDLE, "small.png", "large.png", *arguments, cwd=tmp_path)
