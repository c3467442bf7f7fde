"""Virtual environments of other Python interpreters, for tests that the current interpreter cannot run."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from commands import in_a_process
from numpy.typing import NDArray

from caflow_deploy.images.image_files import read_image, write_image

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
