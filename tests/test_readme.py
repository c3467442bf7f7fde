"""Every command and every line of Python in the README, and in that of models, works in a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "models/README.md")
TRAINED_FOR_HOURS = "tests/test_tasks.py, and models like these: tests/test_demo_models.py"
RUN_ELSEWHERE = {
    "make test": "the gate",
    "python3 -m venv .venv && . .venv/bin/activate": "tests/test_install.py",
    "pip install '.[cpu]'": "tests/test_install.py",
    "pip install '.[export]'": "the environment of the tests",
    "caflow-export x4-photo --trt fp16": "tests/test_tensorrt.py, and on a GPU tests/test_engines.py",
    "caflow bench x4-photo.caflow --backend cpu --backend tensorrt": "tests/test_engines.py",
    "caflow image docs/images/chelsea.png -o gpu --bundle x4-photo.caflow --backend tensorrt": "tests/test_engines.py",
    "caflow video rtsp://camera.local/stream -o recorded.mp4 --duration 60": "tests/test_live.py",
    "caflow video 0 --show": "tests/test_live.py",
    "caflow video clip.mp4 --at 01:23 --sheet -o preview.png": "tests/test_video_outputs.py",
    "caflow video clip.mp4 -o part.webm --start 01:20 --end 01:30.5": "tests/test_video_outputs.py",
    "caflow video 'frames/%05d.png' --rate 24 -o large/%05d.png": "tests/test_video_outputs.py",
    "caflow video moving.gif -o large.gif": "tests/test_animations.py",
    "ffmpeg -i clip.mp4 -f yuv4mpegpipe - | caflow video - -o - | ffmpeg -i - large.mp4": "tests/test_pipes.py",
    "caflow image - -o - < photo.jpg > large.png": "tests/test_pipes.py",
    'eval "$(_CAFLOW_COMPLETE=bash_source caflow)"': "tests/test_completion.py",
    'eval "$(_CAFLOW_COMPLETE=zsh_source caflow)"': "click's own tests",
    "_CAFLOW_COMPLETE=fish_source caflow | source": "click's own tests",
    "caflow-train sketch --data photographs --out runs/sketch": TRAINED_FOR_HOURS,
    "caflow-export runs/sketch/last.pt -o sketch.caflow": TRAINED_FOR_HOURS,
    "caflow image drawing.png -o drawn --bundle sketch.caflow": TRAINED_FOR_HOURS,
    "caflow-train image-to-image --data pairs --out runs/pairs": TRAINED_FOR_HOURS,
    "caflow-export runs/pairs/last.pt -o pairs.caflow": TRAINED_FOR_HOURS,
    "caflow image pairs/A -o translated --bundle pairs.caflow": TRAINED_FOR_HOURS,
}
PROGRAMS = str(Path(sys.executable).parent)


def blocks(language: str) -> Iterator[str]:
    for page in PAGES:
        yield from re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line.partition("  #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line and line not in RUN_ELSEWHERE]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that git keeps, with this environment as `.venv`."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    for environment in (tmp_path / ".venv", tmp_path / "build" / "demo-venv"):
        environment.mkdir(parents=True)
        (environment / "bin").symlink_to(Path(sys.executable).parent)
        (environment / ".installed").touch()
    return tmp_path


def test_what_the_readme_leaves_to_others_is_in_it() -> None:
    text = "\n".join(blocks("sh"))
    assert all(command in text for command in RUN_ELSEWHERE)
    assert "make demo" in commands()


@pytest.mark.full
def test_the_readme(copy: Path) -> None:
    environment = os.environ | {
        "PYTHONWARNINGS": "error::UserWarning:caflow",
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
    }
    for command in commands():
        done = subprocess.run(
            command, shell=True, cwd=copy, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    for result in (
        "build/demo/chelsea.png",
        "enlarged/chelsea-sheet.png",
        "coloured/chelsea.png",
        "filled/face.png",
    ):
        assert cv2.imread(str(copy / result)) is not None, result
    for code in blocks("python"):
        done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{code}\n{done.stderr}"
        assert done.stdout


def test_links_lead_somewhere() -> None:
    for page in ROOT.glob("**/*.md"):
        if {".venv", "build"} & set(page.relative_to(ROOT).parts):
            continue
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page}: {target}"
