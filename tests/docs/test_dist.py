"""The published sdist and wheel: their contents, and the Python versions on which they can be installed."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from commands import in_a_process

from caflow_runtime.bundle import builtin

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "caflow_cli": ROOT / "caflow_cli",
    "caflow_deploy": ROOT / "caflow_deploy",
    "caflow_export": ROOT / "export" / "caflow_export",
    "caflow_runtime": ROOT / "runtime" / "caflow_runtime",
    "caflow_training": ROOT / "training" / "caflow_training",
}
LARGEST_BYTES = 50e6
UNTESTED = ("3.12", "3.14")

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Sdist, and the wheel that `python -m build` builds from this sdist."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, ROOT], check=True, capture_output=True)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def files_of(folder: Path) -> set[str]:
    """Return the files of a folder that git tracks. Only they may be published."""
    listed = subprocess.run(["git", "ls-files"], cwd=folder, capture_output=True, text=True, check=True)
    return set(listed.stdout.splitlines())


def test_sdist_and_wheel_pass_the_checks_of_pypi(built: tuple[Path, Path]) -> None:
    done = in_a_process([sys.executable, "-m", "twine", "check", "--strict", *built])
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("PASSED") == 2
    assert all(path.stat().st_size < LARGEST_BYTES for path in built)


def test_the_wheel_holds_the_packages_and_the_model(built: tuple[Path, Path]) -> None:
    """It contains all files of the packages and the models, and nothing else, so no untracked file is published."""
    sdist, wheel = built
    expected = {f"{name}/{file}" for name, folder in PACKAGES.items() for file in files_of(folder)}
    expected |= {
        f"caflow_runtime/models/{name}.caflow/{path.name}"
        for name in ("colour-hints", "inpaint-photo", "x2-video", "x4-photo", "x4-real")
        for path in builtin.find_bundle(name).iterdir()
    }
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    assert names == expected
    with tarfile.open(sdist) as archive:
        top = {Path(*Path(name).parts[1:2]).name for name in archive.getnames()}
    assert top == {
        *("caflow_cli", "caflow_deploy", "export", "models", "runtime", "training"),
        *(".gitignore", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"),
    }


@pytest.mark.parametrize("version", UNTESTED)
def test_other_pythons_have_all_dependencies(built: tuple[Path, Path], tmp_path: Path, version: str) -> None:
    """All dependencies have wheels for these versions. Nothing is installed, so nothing is run."""
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--target", tmp_path / "nowhere"]
    done = in_a_process([*pip, "--python-version", version, "--only-binary", ":all:", f"{built[1]}[cpu,video]"])
    assert done.returncode == 0, done.stderr
