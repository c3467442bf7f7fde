"""The filters for GStreamer and VapourSynth: each frame equals the result of `caflow image`."""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from commands import environment_with, in_a_process
from numpy.typing import NDArray
from tiny import photograph

from caflow_deploy.images.image_files import read_image, write_image

ROOT = Path(__file__).parents[3]


def environment_of(python: str, folder: Path, *packages: str, system: bool = False) -> Path:
    """Create a virtual environment in a folder, install the package into it, and return its folder `bin`.

    Arguments:
        python: command of the interpreter. The test is skipped if it is not installed or has no ensurepip.
        packages: further packages to install.
        system: make the packages that are installed for this interpreter visible too.
    """
    try:
        found = subprocess.run([python, "-c", "import ensurepip"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"{python} is not installed")
    if found.returncode:
        pytest.skip(f"{python} cannot create environments: its package venv is not installed")
    options = ["--system-site-packages"] if system else []
    subprocess.run([python, "-m", "venv", *options, folder], check=True)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", f"{ROOT}[cpu]", *packages]
    subprocess.run(pip, check=True, cwd=folder)
    return folder / "bin"


def images_of_the_command(
    programs: Path, folder: Path, bundle: Path, given: Iterable[NDArray[np.uint8]]
) -> list[NDArray[np.uint8]]:
    """Return the results of `caflow image` in an environment, with temperature 0.7 and seed 3."""
    (folder / "in").mkdir()
    for number, image in enumerate(given):
        write_image(folder / "in" / f"{number}.png", image)
    options = ["--model", bundle, "-n", 1, "--temperature", 0.7, "--seed", 3, "--backend", "cpu"]
    done = in_a_process([programs / "caflow", "image", "in", "-o", "out", *options], cwd=folder)
    assert done.returncode == 0, done.stderr
    return [read_image(folder / "out" / path.name).rgb for path in sorted((folder / "in").iterdir())]


ELEMENT = ROOT / "integrations" / "gstreamer" / "caflow_element.py"
PYTHON = "/usr/bin/python3"
"""Interpreter that GStreamer's loader of Python plugins uses."""
FRAMES, HEIGHT, WIDTH = 3, 17, 30
"""Rows have 90 bytes, which GStreamer pads to 92."""
SIZE = f"video/x-raw,format=RGB,width={WIDTH},height={HEIGHT},framerate=5/1"
SOURCE = f"videotestsrc num-buffers={FRAMES} pattern=ball ! {SIZE}"

pytestmark = pytest.mark.full


class Gst:
    """Environment in which GStreamer finds the element, and a working folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = environment_of(PYTHON, folder / "venv", system=True)
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
    if shutil.which("gst-launch-1.0") is None:
        pytest.skip("requires gstreamer1.0-tools (.ci/packages)")
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


FILTER = ROOT / "integrations" / "vapoursynth"
SCRIPT = """
import sys
import numpy as np
import vapoursynth as vs
from caflow_vapoursynth import enlarge

given = np.load("given.npy")
frames, height, width, _ = given.shape

def fill(n, f):
    frame = f.copy()
    for plane in range(3):
        np.asarray(frame[plane])[:] = given[n, ..., plane]
    frame.props["n"] = n
    return frame

clip = vs.core.std.BlankClip(format=vs.RGB24, width=width, height=height, length=frames, fpsnum=24, keep=True)
clip = clip.std.ModifyFrame(clip, fill)
large = enlarge(clip, sys.argv[1], temperature=0.7, seed=3, backend="cpu")
assert (large.num_frames, large.fps) == (clip.num_frames, clip.fps)
made = {n: large.get_frame(n) for n in reversed(range(frames))}  # in any order
assert all(made[n].props["n"] == n for n in made)
np.save("made.npy", [np.stack([np.asarray(made[n][plane]) for plane in range(3)], 2) for n in range(frames)])
try:
    enlarge(clip.resize.Bicubic(format=vs.RGB48))
except vs.Error as error:
    print(error)
"""


def test_a_script_gives_the_pixels_of_the_command(photographs: Path, uncalibrated: Path, tmp_path: Path) -> None:
    programs = environment_of("python3.13", tmp_path / "venv", "vapoursynth")
    given = np.stack([photograph(photographs, number, HEIGHT, WIDTH) for number in range(FRAMES)])
    np.save(tmp_path / "given.npy", given)
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "caflow_vapoursynth.py").symlink_to(FILTER / "caflow_vapoursynth.py")
    done = in_a_process([programs / "python", "script.py", uncalibrated], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("caflow: the clip must be RGB24")
    expected = images_of_the_command(programs, tmp_path, uncalibrated, given)
    np.testing.assert_array_equal(np.load(tmp_path / "made.npy"), expected)
