"""Every command and program of the README and the guides: each works in a copy of the repository.

The script of the Python guide with images of every kind writes what the commands write.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import caflow
from documentation import PAGES, README, ROOT, blocks, commands
from PIL import Image

RUN_ELSEWHERE = (
    *("make test", "make docs"),  # the gate
    *("python3 -m venv .venv && . .venv/bin/activate", "pip install", "apt-get install"),  # test_install.py
    *("eval", "_CAFLOW_COMPLETE"),  # test_completion.py
    *("caflow-export x4-photo --trt fp16", "caflow bench x4-photo.caflow --backend cpu --backend tensorrt"),  # a GPU
    "caflow image docs/images/chelsea.png -o gpu",  # a GPU
    *("caflow video rtsp://", "caflow-export x4-photo -o integers.caflow"),  # test_live.py and test_int8.py
    *("caflow-train sketch", "caflow-export runs/sketch", "caflow image drawing.png", "caflow-train image-to-image"),
    *("caflow-export runs/pairs", "caflow image pairs/A"),  # these take hours; tests/training has small models
    *("caflow-train x4-", "caflow-train inpaint-", "caflow-train colour-", "torchrun", "until torchrun"),
    *("export TORCH_DISABLE", "caflow calibrate my.caflow"),  # test_restart.py and test_calibrating.py
    *("library=$(python3 -c", "cmake"),  # test_cpp_builds.py
    *("ray start", "caflow image /shared"),  # test_ray_executor.py
    *("curl", "caflow serve"),  # test_serving.py
    "caflow page",  # test_page_visit.py
    *("cp integrations", "cp -r integrations", "/usr/bin/python3 -m venv", "python3.13 -m venv .venv-vapoursynth"),
    *(". .venv-vapoursynth", "~/caflow/bin/pip", "mkdir -p ~/caflow", "export GST_PLUGIN_PATH", "gst-launch-1.0"),
)
"""Beginnings of commands that require more than a clone. Tests of the named files run them instead."""
PROGRAMS_ELSEWHERE = ("docs/guides/servers.md", "docs/guides/other-programs.md")
RESULTS = {
    README: ("build/demo/chelsea.png", "enlarged/chelsea-sheet.png"),
    "docs/guides/images.md": ("faithful/chelsea.png", "twice.png", "piped.png"),
    "docs/guides/videos.md": ("preview.png", "large.mp4", "part.webm", "numbered/00003.png", "large.gif", "piped.mp4"),
    "docs/guides/trust.md": ("checked/chelsea.png", "judged/report.html", "mapped/chelsea-uncertainty.png"),
    "docs/guides/inpainting.md": ("filled/scratched.jpg", "choices/scratched-2.jpg"),
    "docs/guides/colorization.md": ("coloured/grey-suggested.png", "tinted/grey.jpg", "choices/grey-sheet.png"),
    "docs/guides/training.md": ("runs/images/chelsea.png",),
    "docs/guides/export.md": ("half.caflow/manifest.json",),
    "docs/guides/many-machines.md": ("spread/chelsea.png",),
}
"""Some of the files that the commands of each page write."""
TRAINED = Path("runs/tiny")
"""A model that several pages train with the same command. Training a finished model again ends at once."""
BIN = Path(sys.executable).parent


def run_here(page: str) -> list[str]:
    """Return the commands of a page that require no more than a clone."""
    return [line for line in commands(page) if not line.startswith(RUN_ELSEWHERE)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first page that trains the model of several pages leaves it for the next page."""
    return tmp_path_factory.mktemp("trained") / TRAINED.name


@pytest.fixture
def copy(tmp_path: Path, trained: Path) -> Iterator[Path]:
    """A copy of the files that git tracks, with this environment as `.venv`, and the model if a page has trained it."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    for environment in (tmp_path / ".venv", tmp_path / "build" / "demo-venv"):
        environment.mkdir(parents=True)
        (environment / "bin").symlink_to(BIN)
        (environment / ".installed").touch()
    if trained.is_dir():
        shutil.copytree(trained, tmp_path / TRAINED)
    yield tmp_path
    if (tmp_path / TRAINED / "last.pt").is_file() and not trained.is_dir():
        shutil.copytree(tmp_path / TRAINED, trained)


def test_commands_that_other_tests_run_are_in_the_pages() -> None:
    lines = [line for page in PAGES for line in commands(page)]
    for beginning in RUN_ELSEWHERE:
        assert any(line.startswith(beginning) for line in lines), beginning
    assert "make test" in commands(README)
    assert "make demo" in run_here(README)


@pytest.mark.full
@pytest.mark.parametrize("page", [page for page in PAGES if run_here(page)])
def test_the_commands_and_programs_of_a_page_run_in_a_copy_of_the_repository(page: str, copy: Path) -> None:
    environment = os.environ | {"PYTHONWARNINGS": "error::UserWarning:caflow", "PATH": f"{BIN}:{os.environ['PATH']}"}
    for command in run_here(page):
        done = subprocess.run(
            command, shell=True, cwd=copy, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    for result in RESULTS.get(page, ()):
        assert (copy / result).stat().st_size > 0, result
    for code in [] if page in PROGRAMS_ELSEWHERE else [block.code for block in blocks("python", (page,))]:
        done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{code}\n{done.stderr}"
        assert done.stdout


BY_COMMANDS = {
    "large-turned.jpg": ["turned.jpg"],
    "large-clear.png": ["clear.png"],
    "large-deep.png": ["deep.png"],
    "large-photo.png": ["photo.png", "--sheet"],
    "mended.png": ["docs/images/scratched.jpg", "--mask", "docs/images/scratched-mask.png"],
    "coloured.png": ["docs/images/grey.jpg", "--hints", "docs/images/grey-hints.png"],
}


@pytest.mark.full
def test_the_script_writes_the_bytes_of_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    pages = ("docs/guides/python.md",)
    (script,) = [block.code for block in blocks("python", pages) if "turned.jpg" in block.code]
    subprocess.run([sys.executable, "-c", f"{script}\nphoto.save('photo.png')\n"], check=True)
    for name, (given, *options) in BY_COMMANDS.items():
        caflow("image", given, "-o", Path("commands") / name, *options, code=0)
        assert Path(name).read_bytes() == (Path("commands") / name).read_bytes(), name
    sheets = [np.asarray(Image.open(folder / "large-photo-sheet.png")) for folder in (Path(), Path("commands"))]
    np.testing.assert_array_equal(sheets[0], sheets[1])
    assert Path("large-array.png").read_bytes() == Path("large-photo.png").read_bytes()
