"""Accepted targets: a list of their names, or a folder with copies of their files, or links to them."""

import os
import shutil
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Literal

from caflow_runtime.errors import InputError
from caflow_runtime.jobs.pairs import FilePair
from caflow_runtime.whole_files import whole_file

LIST, LIST0, FILES = "accepted.txt", "accepted.list0", "accepted"

Accepted = Literal["list", "list0", "copy", "link"]
"""How accepted targets are given: their paths, one a line in `accepted.txt`, or each ended by a zero byte in
`accepted.list0`, as `xargs -0` reads them; or their files, or symbolic links, in `accepted/`."""
PLACES: dict[Accepted, str] = {"list": LIST, "list0": LIST0, "copy": FILES, "link": FILES}


def write_list(path: Path, names: Iterable[str], end: bytes) -> None:
    """Write names, each followed by `end`, a line break or a zero byte; all of them or nothing.

    Raises:
        InputError: if a name does not fit in a line.
        OSError
    """
    with whole_file(path) as partial, partial.open("wb") as file:
        for name in names:
            if end == b"\n":
                check_fits_in_a_line(name)
            file.write(os.fsencode(name) + end)


def check_fits_in_a_line(name: str) -> None:
    """Refuse a name with a line break: who reads the list would find two names, perhaps that of a rejected file.

    Raises:
        InputError
    """
    if name.splitlines() != [name]:
        raise InputError(
            f"{name!r} has a line break, so it does not fit in {LIST}: give --accepted list0, and read {LIST0} with "
            "xargs -0, or give --accepted copy"
        )


def place_of(name: str) -> Path:
    """Of a file: absolute, and through no link, but that it may be one itself."""
    path = Path(name)
    return _resolved(path.parent) / path.name


def common_folder(pairs: Iterable[FilePair]) -> str:
    """The deepest one that holds all targets: what their names are relative to, so no two become one.

    Raises:
        InputError: if there is none.
    """
    try:
        return os.path.commonpath({place_of(pair.target).parent for pair in pairs})
    except ValueError:
        raise InputError("targets are on several drives, so have no folder in common: give --accepted list") from None


def place_files(folder: Path, names: Iterable[str], common: str, how: Accepted) -> None:
    """Copies of files, or links to them, below a folder."""
    folder.mkdir(exist_ok=True)
    for name in names:
        source = place_of(name)
        place = folder / source.relative_to(common)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)  # else a copy would go through a link that is there, into the original
        if how == "copy":
            shutil.copy2(source, place)
        else:
            place.symlink_to(source)


@lru_cache(maxsize=1024)
def _resolved(folder: Path) -> Path:
    """A list has many files of each folder."""
    return folder.resolve()
