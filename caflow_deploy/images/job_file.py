"""`job.json`, the file that marks the folder of a job. With it, results of earlier jobs are not mistaken for inputs."""

import os
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from caflow_deploy.images.image_formats import images_below, throw
from caflow_runtime.file_io.strict_json import WrongJson, read_json

JOB_FILE = "job.json"


class _Job(msgspec.Struct):
    command: str


def originals_below(
    folder: Path, suffixes: Collection[str], on_error: Callable[[OSError], object] = throw
) -> list[Path]:
    """Return what `images_below` returns, without the images in `job_folders_below`."""
    jobs = job_folders_below(folder)
    return [file for file in images_below(folder, suffixes, on_error) if jobs.isdisjoint(file.parents)]


def job_folders_below(folder: Path) -> set[Path]:
    """Return the subfolders with results of earlier jobs. The folder itself is not among them."""
    found = set()
    for place, folders, names in os.walk(folder):
        path = Path(place)
        if JOB_FILE in names and path != folder and _is_ours(path / JOB_FILE):
            found.add(path)
            folders.clear()
    return found


def _is_ours(file: Path) -> bool:
    """Return whether a file named `job.json` was written by a command of this project."""
    try:
        return read_json(file, _Job).command.startswith("caflow ")
    except (OSError, WrongJson):
        return False
