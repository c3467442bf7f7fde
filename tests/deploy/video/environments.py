"""Virtual environments of other Python interpreters, for tests that the current interpreter cannot run."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def environment_of(python: str, folder: Path, extras: str, *packages: str, system: bool = False) -> Path:
    """Create a virtual environment in a folder, install the package into it, and return its folder `bin`.

    Arguments:
        python: command of the interpreter. The test is skipped if it is not installed or has no ensurepip.
        extras: extras of the package, separated by commas.
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
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", f"{ROOT}[{extras}]", *packages]
    subprocess.run(pip, check=True, cwd=folder)
    return folder / "bin"
