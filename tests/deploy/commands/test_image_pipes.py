"""`caflow image` with `-`: names in what is printed, and refusals."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import caflow, json_lines


def encoded(suffix: str) -> bytes:
    return cv2.imencode(suffix, np.zeros((8, 8, 3), np.uint8))[1].tobytes()


def test_an_image_of_standard_input_has_the_names_that_were_given(uncalibrated: Path, tmp_path: Path) -> None:
    """Files whose names are those of a stream are files. No message names a temporary file."""
    given = encoded(".png")
    common = ["--bundle", uncalibrated, "-n", 1, "--threads", 1]
    result = tmp_path / "out" / "standard input.png"
    done = caflow("image", "-", "-o", tmp_path / "out", *common, given=given)
    assert f"standard input → {result}  " in done.stdout
    assert caflow("image", result, "-o", tmp_path / "again", *common).stdout.startswith(f"{result} → ")
    done = caflow("image", "-", "-o", tmp_path / "named.png", "--json", *common, given=given)
    (found,) = json_lines(done.stdout)
    assert (found["input"], found["output"]) == ("-", str(tmp_path / "named.png"))
    done = caflow("image", "-", "-o", tmp_path / "bad.png", *common, given=b"no image", code=1)
    assert "caflow: standard input: cannot decode" in done.stderr
    assert "caflow: 1 of 1 image failed: standard input" in done.stderr
    assert "/caflow-" not in done.stderr


@pytest.mark.parametrize(
    ("inputs", "given", "options", "message"),
    [
        (["-"], b"", [], "standard input: "),
        (["-"], b"no image", [], "standard input: "),
        (["-"], b"", ["--sheet"], "--sheet writes further files"),
        (["-", "a.png"], b"", [], "- stands for a single image"),
        (["-"], 2 * encoded(".png"), [], "standard input: - stands for a single image, but several were piped"),
        (["-"], 2 * encoded(".jpg"), [], "standard input: - stands for a single image, but several were piped"),
    ],
)
def test_a_failed_image_writes_nothing_to_standard_output(
    uncalibrated: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
    inputs: list[str],
    given: bytes,
    options: list[str],
    message: str,
) -> None:
    done = caflow("image", *inputs, "-o", "-", "--bundle", uncalibrated, *options, given=given)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert capfdbinary.readouterr().out == b""
