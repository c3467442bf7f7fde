"""Image files by their suffixes: which are read and written, which lie in a folder, and which form pairs.

A folder of results is marked by its `job.json`, so that results of earlier jobs are not mistaken for inputs.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NoReturn

import msgspec

from caflow_runtime.file_io.strict_json import WrongJson, read_json

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
READ_ONLY = {".avif", ".heic", ".heif"}
"""Suffixes of files that are read, but not written."""
READABLE = SUFFIXES | READ_ONLY
VIDEO_SUFFIXES = {".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"}
"""Suffixes of videos, which are refused where images are expected."""
ANIMATION_SUFFIXES = {".apng", ".gif"}
"""Suffixes of files that are animations only. PNG and WebP files may be animations, too."""
MAX_IMAGE_PIXELS = 2**28
"""Default maximum number of pixels that an image file may claim: 268 megapixels. Reading requires 6 to 40 bytes per
pixel."""
JOB_FILE = "job.json"


def throw(error: OSError) -> NoReturn:
    """Raise an error. As `on_error`, it ends a search at the first folder that cannot be read."""
    raise error


def images_below(
    folder: Path, suffixes: Collection[str] = SUFFIXES, on_error: Callable[[OSError], object] = throw
) -> list[Path]:
    """Return the sorted paths of the image files in a folder and its subfolders, by their suffixes.

    Links to folders are not followed.

    Arguments:
        on_error: called with the error of each folder that cannot be read; by default, it raises the error.
    """
    files = [Path(place) / name for place, _, names in os.walk(folder, onerror=on_error) for name in names]
    return sorted(file for file in files if file.suffix.lower() in suffixes and _may_be_file(file))


def partners(names: Iterable[str], others: Collection[str]) -> dict[str, list[str]]:
    """Return, for each of the image files `names`, those of the files `others` that can form a pair with it.

    This is the file with the same name. If there is none, these are all files whose names differ in the suffix alone.
    """
    by_stem = defaultdict(list)
    for other in sorted(others):
        by_stem[Path(other).with_suffix("")].append(other)
    return {name: [name] if name in others else by_stem.get(Path(name).with_suffix(""), []) for name in names}


def _may_be_file(path: Path) -> bool:
    """Return whether a path is a file, or cannot be looked at; the error of reading it then says why."""
    try:
        return path.is_file()
    except OSError:
        return True


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
