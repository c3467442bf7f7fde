"""Installation with the extra `cpu` in a new environment: small, without PyTorch, and with models that work."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import started
from documentation import commands
from ports import free_port
from tiny import photograph

from caflow_deploy import load
from caflow_deploy.images.image_files import read_image, write_image
from caflow_runtime.bundle import builtin

ROOT = Path(__file__).parents[2]
LARGEST_BYTES, SERVER_BYTES = 450e6, 20e6
"""Limits for the size of the package with its dependencies, and of what the extra `serve` adds, in bytes. pip is not
counted."""


@pytest.mark.full
def test_the_extra_cpu_installs_a_small_runtime_without_pytorch_that_works(photographs: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    programs = environment / "bin"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [str(programs / "pip"), "install", "--quiet", f"{ROOT}[cpu]"]
    before = bytes_in(environment)
    subprocess.run(pip, check=True, cwd=tmp_path)
    assert bytes_in(environment) - before < LARGEST_BYTES
    listed = subprocess.run([programs / "pip", "list", "--format", "json"], check=True, capture_output=True, text=True)
    names = {package["name"] for package in json.loads(listed.stdout)}
    assert not names & {"torch", "onnx", "scipy", "matplotlib", "opencv-python", "pydantic"}
    write_image(tmp_path / "small.png", photograph(photographs, 0, 9, 12))
    subprocess.run([programs / "caflow", "image", "small.png", "-o", "large.png"], check=True, cwd=tmp_path)
    with load() as pipe:
        expected = pipe.best_of(read_image(tmp_path / "small.png").rgb)
    np.testing.assert_array_equal(read_image(tmp_path / "large.png").rgb, expected.images[0])
    doctor = subprocess.run([programs / "caflow", "doctor"], check=False, cwd=tmp_path)
    assert doctor.returncode == 0
    (models,) = environment.glob("lib/*/site-packages/caflow_runtime/models")
    assert sorted(path.name for path in models.iterdir()) == [f"{name}.caflow" for name in builtin.names()]
    # Messages name extras in this way. It works in any folder, although the package is on no package index.
    extra: list[str | Path] = [programs / "pip", "install", "--dry-run", "caflow-deploy[video]"]
    added = subprocess.run(extra, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert "Would install av" in added.stdout
    before = bytes_in(environment)
    subprocess.run([*pip[:-1], f"{ROOT}[cpu,serve]"], check=True, cwd=tmp_path)
    assert bytes_in(environment) - before < SERVER_BYTES
    port = free_port()
    line = [str(programs / "caflow"), "serve", "--port", str(port), "--metrics", str(free_port())]
    with started(line, cwd=tmp_path) as server:
        assert server.stdout.readline() == f"x4-photo is ready at http://127.0.0.1:{port}\n"


@pytest.mark.full
def test_the_light_runtime_runs_alone(photographs: Path, tmp_path: Path) -> None:
    """In an environment with only the packages that the guide lists."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    installs = [line for line in commands("docs/guides/python.md") if line.startswith("pip install")]
    for line in installs[:2]:
        subprocess.run([python, "-m", *line.replace(" .", f" {ROOT}").split(), "--quiet"], check=True, cwd=tmp_path)
    np.save(tmp_path / "small.npy", photograph(photographs, 0, 9, 12))
    program = """
import numpy as np
import caflow_runtime as caflow

small = np.load("small.npy")
with caflow.load("x2-video") as pipe:
    best = pipe.best_of(small, n=2, temperature=0.5)
    np.save("large.npy", best.images[0])
    print(pipe.score(best.images, small).bits_per_dim, [frame.image.shape for frame in pipe.stream([small] * 2)])
"""
    subprocess.run([python, "-W", "error", "-c", program], check=True, cwd=tmp_path)
    with load("x2-video") as pipe:
        expected = pipe.best_of(np.load(tmp_path / "small.npy"), n=2, temperature=0.5)
    np.testing.assert_array_equal(np.load(tmp_path / "large.npy"), expected.images[0])


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
