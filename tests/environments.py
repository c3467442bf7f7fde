"""Environments of other Pythons with the wheel, for what the tests' own Python cannot run."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def environment_of(python: str, folder: Path, extras: str, *packages: str, system: bool = False) -> Path:
    """Make an environment in a folder, with the package as a wheel installs it, and return its `bin`.

    Arguments:
        python: that Python's command; the test is skipped where it is not there.
        system: let it see the packages of that Python, too.
    """
    try:
        found = subprocess.run([python, "-c", "import ensurepip"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"needs {python}")
    if found.returncode:
        pytest.skip(f"needs venv for {python}")
    options = ["--system-site-packages"] if system else []
    subprocess.run([python, "-m", "venv", *options, folder], check=True)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", f"{ROOT}[{extras}]", *packages]
    subprocess.run(pip, check=True, cwd=folder)
    return folder / "bin"
