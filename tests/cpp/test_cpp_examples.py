"""The example programs of the C++ runtime."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from cpp_build import run
from tiny import photograph

from caflow_deploy.images.image_files import read_image, write_image
from caflow_runtime.bundle import builtin
from caflow_runtime.image_arrays import Image
from caflow_runtime.pipeline.pipeline import load

BUNDLE = builtin.find_bundle(builtin.DEFAULT)
SIDES = (24, 32)


def write_video(path: Path, frame: Image, count: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, SIDES[::-1])
    for _ in range(count):
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()


def read_video(path: Path) -> list[Image]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1][..., ::-1].astype(np.uint8))
    return frames


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
    frames = read_video(tmp_path / "large.avi")
    assert len(frames) == 5
    for frame in frames:
        assert frame.shape == (4 * SIDES[0], 4 * SIDES[1], 3)
        assert np.abs(frame.astype(int) - large).mean() < 6  # the input and the output are compressed as MJPEG


@pytest.mark.parametrize("arguments", [["-1"], ["abc"], ["2.5"], ["3", "warm"]])
def test_the_example_programs_refuse_arguments_that_are_no_numbers(
    built_cpp: Path, tmp_path: Path, arguments: list[str]
) -> None:
    write_image(tmp_path / "small.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(AssertionError, match=f"expected a number.*; got {arguments[-1]}"):
        run(built_cpp / "examples" / "upscale_image", BUNDLE, "small.png", "large.png", *arguments, cwd=tmp_path)
