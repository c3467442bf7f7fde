"""The VapourSynth filter, in a script that runs in a separate Python: each frame equals that of `caflow image`."""

from pathlib import Path

import numpy as np
import pytest
from commands import in_a_process
from environments import environment_of, images_of_the_command
from tiny import photograph

FILTER = Path(__file__).parents[3] / "integrations" / "vapoursynth"
FRAMES, HEIGHT, WIDTH = 3, 17, 30
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

pytestmark = pytest.mark.full


def test_a_script_gives_the_pixels_of_the_command(photographs: Path, uncalibrated: Path, tmp_path: Path) -> None:
    programs = environment_of("python3.13", tmp_path / "venv", "cpu", "vapoursynth")
    given = np.stack([photograph(photographs, number, HEIGHT, WIDTH) for number in range(FRAMES)])
    np.save(tmp_path / "given.npy", given)
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "caflow_vapoursynth.py").symlink_to(FILTER / "caflow_vapoursynth.py")
    done = in_a_process([programs / "python", "script.py", uncalibrated], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("caflow: the clip must be RGB24")
    expected = images_of_the_command(programs, tmp_path, uncalibrated, given)
    np.testing.assert_array_equal(np.load(tmp_path / "made.npy"), expected)
