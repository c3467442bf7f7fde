"""Accepted targets of `caflow filter`: a list of their paths, or a folder with copies of the files."""

import os
import shutil
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Literal

from caflow_deploy.images.pairs import FilePair
from caflow_runtime.errors import NO_SPACE, InputError
from caflow_runtime.file_io.atomic_files import atomic_file
from caflow_runtime.file_io.paths import real_path

LIST, FILES = "accepted.txt", "accepted"

Accepted = Literal["list", "copy"]
"""Form in which accepted targets are written.

* "list": their paths in `accepted.txt`, one per line.
* "copy": copies of their files in `accepted/`.
"""
PLACES: dict[Accepted, str] = {"list": LIST, "copy": FILES}
"""Name of the file or folder that each form is written to."""


def write_list(path: Path, names: Iterable[str]) -> None:
    """Write a list of names, one per line. If writing fails, an existing file stays unchanged.

    Raises:
        InputError: if a name contains a line break.
        OSError: if a file cannot be read or written.
    """
    with atomic_file(path) as partial, partial.open("wb") as file:
        for name in names:
            check_fits_in_a_line(name)
            file.write(os.fsencode(name) + b"\n")


def check_fits_in_a_line(name: str) -> None:
    """Refuse a name that contains a line break.

    Readers of the list would take such a name for two names, and one of these may be the name of a rejected file.

    Raises:
        InputError: if the check fails.
    """
    if name.splitlines() != [name]:
        raise InputError(f"{name!r} contains a line break, so it cannot be written to {LIST}; use `accepted` copy")


def place_of(name: str) -> Path:
    """Return the absolute path of a file, with all links in its folder resolved. The file itself may be a link."""
    path = Path(name)
    return _resolved(path.parent) / path.name


def common_folder(pairs: Iterable[FilePair]) -> str:
    """Return the deepest folder that contains all targets.

    Accepted files keep their paths relative to this folder, so files of different folders never get the same name.

    Raises:
        InputError: if the targets are on different drives.
    """
    try:
        return os.path.commonpath({place_of(pair.target).parent for pair in pairs})
    except ValueError:
        raise InputError(
            "the targets are on different drives, so they have no common folder; use `accepted` list"
        ) from None


def copy_files(folder: Path, names: Iterable[str], common: str) -> None:
    """Copy files to a folder.

    Arguments:
        common: folder that contains all files. Their paths relative to it are kept in `folder`.

    Raises:
        OSError: if a file cannot be read or written.
    """
    folder.mkdir(exist_ok=True)
    for name in names:
        source = place_of(name)
        place = folder / source.relative_to(common)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)  # otherwise a copy would follow an old link and overwrite the original
        try:
            shutil.copy2(source, place)
        except OSError as error:
            if error.errno in NO_SPACE:  # the error names the source, too, which has nothing to do with it
                raise OSError(error.errno, error.strerror, str(place)) from None
            raise


@lru_cache(maxsize=1024)
def _resolved(folder: Path) -> Path:
    """Resolve all links in the path of a folder. Results are cached, since lists have many files of each folder."""
    return real_path(folder)
