"""The GStreamer element in pipelines of `gst-launch`: each frame equals the result of `caflow image`."""

import shutil
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from commands import environment_with, in_a_process
from environments import environment_of, images_of_the_command
from numpy.typing import NDArray

ELEMENT = Path(__file__).parents[3] / "integrations" / "gstreamer" / "caflow_element.py"
PYTHON = "/usr/bin/python3"
"""Interpreter that GStreamer's loader of Python plugins uses."""
FRAMES, HEIGHT, WIDTH = 3, 17, 30
"""Rows have 90 bytes, which GStreamer pads to 92."""
SIZE = f"video/x-raw,format=RGB,width={WIDTH},height={HEIGHT},framerate=5/1"
SOURCE = f"videotestsrc num-buffers={FRAMES} pattern=ball ! {SIZE}"

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="requires gstreamer1.0-tools (.ci/packages)"),
]


class Gst:
    """Environment in which GStreamer finds the element, and a working folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = environment_of(PYTHON, folder / "venv", "cpu", system=True)
        (folder / "gst" / "python").mkdir(parents=True)
        shutil.copy(ELEMENT, folder / "gst" / "python")
        (packages,) = self.programs.parent.glob("lib/python3*/site-packages")
        self.environment = environment_with(
            GST_PLUGIN_PATH=f"{folder / 'gst'}", PYTHONPATH=f"{packages}", GST_REGISTRY=f"{folder / 'registry.bin'}"
        )

    def __call__(self, program: str, *arguments: object) -> "CompletedProcess[str]":
        return in_a_process([program, *arguments], cwd=self.folder, env=self.environment)

    def launch(self, *elements: str) -> "CompletedProcess[str]":
        return self("gst-launch-1.0", "-q", *" ! ".join(elements).split())

    def frames(self, name: str, scale: int) -> NDArray[np.uint8]:
        """Return the frames of a file that contains them in GStreamer's memory layout, with padded rows."""
        height, width = scale * HEIGHT, scale * WIDTH
        rows = np.frombuffer((self.folder / name).read_bytes(), np.uint8).reshape(-1, height, (3 * width + 3) // 4 * 4)
        return np.ascontiguousarray(rows[..., : 3 * width]).reshape(-1, height, width, 3)


@pytest.fixture(scope="module")
def gst(tmp_path_factory: pytest.TempPathFactory) -> Gst:
    made = Gst(tmp_path_factory.mktemp("gst"))
    found = made("gst-inspect-1.0", "python")
    if found.returncode:
        pytest.skip("requires gstreamer1.0-python3-plugin-loader and python3-gst-1.0 (.ci/packages)")
    return made


def test_a_pipeline_gives_the_pixels_of_the_command(gst: Gst, uncalibrated: Path) -> None:
    element = f"caflow model={uncalibrated} backend=cpu temperature=0.7 seed=3"
    tee = "tee name=both both. ! queue ! filesink location=given.rgb both. ! queue"
    done = gst.launch(SOURCE, tee, element, "filesink location=made.rgb")
    assert done.returncode == 0, done.stderr
    given, made = gst.frames("given.rgb", 1), gst.frames("made.rgb", 4)
    assert len(given) == len(made) == FRAMES
    np.testing.assert_array_equal(made, images_of_the_command(gst.programs, gst.folder, uncalibrated, given))


def test_sizes_are_agreed_on_from_either_side(gst: Gst, uncalibrated: Path) -> None:
    """If the size of the result is fixed, the source adapts. A size that is not a multiple of the scale is refused."""
    element, source = f"caflow model={uncalibrated}", "videotestsrc num-buffers=1"
    done = gst.launch(source, element, "video/x-raw,width=64,height=48", "filesink location=sized.rgb")
    assert done.returncode == 0, done.stderr
    assert (gst.folder / "sized.rgb").stat().st_size == 64 * 48 * 3
    refused = gst.launch(source, element, "video/x-raw,width=66,height=48", "fakesink")
    assert refused.returncode != 0
    assert "not-negotiated" in refused.stderr or "could not link" in refused.stderr


def test_a_wrong_bundle_ends_the_pipeline(gst: Gst) -> None:
    done = gst.launch(SOURCE, "caflow model=nowhere", "fakesink")
    assert done.returncode != 0
    assert "nowhere: there is no such folder" in done.stderr
    assert "Traceback" not in done.stderr
