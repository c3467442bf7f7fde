"""Every command and program of the README and the guides: each works in a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from documentation import PAGES, README, ROOT, blocks, commands

TRAINED_FOR_HOURS = "tests/training/test_tasks.py and tests/export/test_export.py, with small models"
STAGES = "tests/export/test_checkpoint_in_bundle.py and tests/training/test_mean_network.py; the stages take hours"
ON_A_GPU = "tests/export/test_engines.py, and on a GPU its tests with the mark gpu"
CPP = "tests/cpp/test_cpp_builds.py"
COMPLETION = "tests/deploy/commands/test_completion.py, and click's own tests"
RAY = "tests/deploy/jobs/test_ray_executor.py"
TRITON = "tests/deploy/serving/test_serving.py"
PROGRAMS = (
    "tests/deploy/images/test_comfyui.py, tests/deploy/video/test_gstreamer.py, tests/deploy/video/test_vapoursynth.py"
)
RUN_ELSEWHERE = {
    "make test": "the gate",
    "make docs": "the gate",
    "python3 -m venv .venv && . .venv/bin/activate": "tests/docs/test_install.py",
    "pip install": "tests/docs/test_install.py, and the environment of the tests",
    "eval": COMPLETION,
    "_CAFLOW_COMPLETE": COMPLETION,
    "caflow-export x4-photo --trt fp16": ON_A_GPU,
    "caflow bench x4-photo.caflow --backend cpu --backend tensorrt": ON_A_GPU,
    "caflow image docs/images/chelsea.png -o gpu": ON_A_GPU,
    "caflow video rtsp://": "tests/deploy/video/test_live.py",
    "caflow-export x4-photo -o integers.caflow": "tests/export/test_int8.py, with a small model",
    "caflow-train sketch": TRAINED_FOR_HOURS,
    "caflow-export runs/sketch": TRAINED_FOR_HOURS,
    "caflow image drawing.png": TRAINED_FOR_HOURS,
    "caflow-train image-to-image": TRAINED_FOR_HOURS,
    "caflow-export runs/pairs": TRAINED_FOR_HOURS,
    "caflow image pairs/A": TRAINED_FOR_HOURS,
    "caflow-train x4-": STAGES,
    "caflow-train inpaint-": STAGES,
    "caflow-train colour-": STAGES,
    "torchrun": "tests/training/test_trainer.py",
    "export TORCH_DISABLE": "tests/training/test_restart.py",
    "until torchrun": "tests/training/test_restart.py",
    "caflow calibrate my.caflow": "tests/deploy/filtering/test_calibrating.py",
    "apt-get install": ".ci/install-packages",
    "library=$(python3 -c": CPP,
    "cmake": CPP,
    "ray start": RAY,
    "caflow image /shared": RAY,
    "caflow serve": "tests/deploy/serving/test_serving.py",
    **dict.fromkeys(("PACKAGES=", "SERVER=", "mkdir -p backends", "cp $SERVER", "$SERVER/bin/"), TRITON),
    "export LD_LIBRARY_PATH": TRITON,
    "docker run": "nothing: there is no Docker where the tests run",
    "cp integrations": PROGRAMS,
    "cp -r integrations": PROGRAMS,
    "/usr/bin/python3 -m venv": PROGRAMS,
    "python3.13 -m venv .venv-vapoursynth": PROGRAMS,
    ". .venv-vapoursynth": PROGRAMS,
    "~/caflow/bin/pip": PROGRAMS,
    "mkdir -p ~/caflow": PROGRAMS,
    "export GST_PLUGIN_PATH": PROGRAMS,
    "gst-launch-1.0": PROGRAMS,
}
"""Beginnings of commands that require more than a clone, and what runs them instead."""
PROGRAMS_ELSEWHERE = {
    "docs/guides/servers.md": "tests/deploy/serving/test_serving.py",
    "docs/guides/other-programs.md": "tests/deploy/video/test_vapoursynth.py",
}
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
    "docs/guides/servers.md": ("repository/x4-photo/config.pbtxt",),
}
"""Some of the files that the commands of each page write."""
TRAINED = Path("runs/tiny")
"""A model that several pages train with the same command. Training a finished model again ends at once."""
BIN = Path(sys.executable).parent


def run_here(page: str) -> list[str]:
    """Return the commands of a page that require no more than a clone."""
    return [line for line in commands(page) if not line.startswith(tuple(RUN_ELSEWHERE))]


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


def test_tests_that_run_the_other_commands_exist() -> None:
    for place in (*RUN_ELSEWHERE.values(), *PROGRAMS_ELSEWHERE.values()):
        for name in re.findall(r"tests/[\w/]+\.py", place):
            assert (ROOT / name).is_file(), name


@pytest.mark.full
@pytest.mark.parametrize("page", [page for page in PAGES if run_here(page)])
def test_the_commands_and_programs_of_a_page_run_in_a_copy_of_the_repository(page: str, copy: Path) -> None:
    environment = os.environ | {
        "PYTHONWARNINGS": "error::UserWarning:caflow",
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
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
