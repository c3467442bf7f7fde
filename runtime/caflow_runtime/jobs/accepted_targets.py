"""Accepted targets of `caflow filter`: a list of their paths, or a folder with copies of the files or links to them."""

import os
import shutil
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Literal

from caflow_runtime.errors import InputError
from caflow_runtime.file_io.atomic_files import atomic_file
from caflow_runtime.file_io.real_path import real_path
from caflow_runtime.jobs.pairs import FilePair

LIST, LIST0, FILES = "accepted.txt", "accepted.list0", "accepted"

Accepted = Literal["list", "list0", "copy", "link"]
"""Form in which accepted targets are written.

* "list": their paths in `accepted.txt`, one per line.
* "list0": their paths in `accepted.list0`, each followed by a zero byte, as `xargs -0` reads them.
* "copy": copies of their files in `accepted/`.
* "link": symbolic links to their files in `accepted/`.
"""
PLACES: dict[Accepted, str] = {"list": LIST, "list0": LIST0, "copy": FILES, "link": FILES}
"""Name of the file or folder that each form is written to."""


def write_list(path: Path, names: Iterable[str], end: bytes) -> None:
    """Write a list of names, each followed by `end`: a line break or a zero byte.

    If writing fails, an existing file stays unchanged.

    Raises:
        InputError: if `end` is a line break, and a name contains one.
        OSError: if a file cannot be read or written.
    """
    with atomic_file(path) as partial, partial.open("wb") as file:
        for name in names:
            if end == b"\n":
                check_fits_in_a_line(name)
            file.write(os.fsencode(name) + end)


def check_fits_in_a_line(name: str) -> None:
    """Refuse a name that contains a line break.

    Readers of the list would take such a name for two names, and one of these may be the name of a rejected file.

    Raises:
        InputError: if the check fails.
    """
    if name.splitlines() != [name]:
        raise InputError(
            f"{name!r} contains a line break, so it cannot be written to {LIST}; use --accepted list0 and read {LIST0} "
            "with xargs -0, or use --accepted copy"
        )


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
            "the targets are on different drives, so they have no common folder; use --accepted list"
        ) from None


def place_files(folder: Path, names: Iterable[str], common: str, how: Accepted) -> None:
    """Copy files to a folder, or create links to them there.

    Arguments:
        common: folder that contains all files. Their paths relative to it are kept in `folder`.
        how: "copy" or "link".
    """
    folder.mkdir(exist_ok=True)
    for name in names:
        source = place_of(name)
        place = folder / source.relative_to(common)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)  # otherwise a copy would follow an old link and overwrite the original
        if how == "copy":
            shutil.copy2(source, place)
        else:
            place.symlink_to(source)


@lru_cache(maxsize=1024)
def _resolved(folder: Path) -> Path:
    """Resolve all links in the path of a folder. Results are cached, since lists have many files of each folder."""
    return real_path(folder)
