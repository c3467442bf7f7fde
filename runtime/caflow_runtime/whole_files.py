"""Files and folders that are written whole or not at all, even if the process is killed or the machine stops.

Until it is whole, NAME is written beside its place under the name `.NAME.TOKEN.partial`. Each writer has a token of its
own, so that several processes may write one file at the same time; the last one to finish wins.
"""

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TOKEN_BYTES = 4
LEFTOVER = re.compile(rf"\.(.+)\.[0-9a-f]{{{2 * TOKEN_BYTES}}}\.partial", re.DOTALL)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, which replaces the one that is there.

    Raises:
        OSError: if it cannot be written; the file that is there stays as it is.
    """
    with whole_file(path) as partial:
        partial.write_bytes(content)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file, which replaces `path` at the end of the block unless the block fails.

    Raises:
        OSError: if the file cannot be moved into its place; the one that is there stays as it is.
    """
    partial = partial_path(path)
    try:
        yield partial
        move_into_place(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a new temporary folder, which replaces `path` at the end of the block unless the block fails.

    The folder that is there is removed at the end, and so is what killed processes have left of it: only one process
    may write a folder at a time. A process that is killed between two moves leaves the old folder under a temporary
    name.

    Raises:
        OSError
    """
    partial = partial_path(path)
    partial.mkdir(parents=True)
    try:
        yield partial
        for file in partial.rglob("*"):
            if file.is_file():
                to_disk(file)
        _folder_to_disk(partial)
        if path.exists():
            path.replace(partial_path(path))
        partial.replace(path)
        _folder_to_disk(path.parent)
        remove_leftovers([path])
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def move_into_place(file: Path, path: Path) -> None:
    """Move a finished file to `path` on the same file system, and see to it that both are on the disk.

    Raises:
        OSError
    """
    to_disk(file)
    file.replace(path)
    _folder_to_disk(path.parent)


def partial_path(path: Path) -> Path:
    """Return a name for `path` until it is whole, which no other process uses."""
    return path.with_name(f".{path.name}.{secrets.token_hex(TOKEN_BYTES)}.partial")


def leftover_of(path: Path) -> str | None:
    """Return the name of the file or folder that `path` would have become; None if it is no temporary one."""
    found = LEFTOVER.fullmatch(path.name)
    return None if found is None else found[1]


def remove_leftovers(paths: Iterable[Path], min_age_s: float = 0) -> None:
    """Remove what killed processes have left of these files and folders.

    Arguments:
        min_age_s: seconds since it was last written to. 0 is for callers who know that nobody writes it now.

    Raises:
        OSError
    """
    names: dict[Path, set[str]] = {}
    for path in paths:
        names.setdefault(path.parent, set()).add(path.name)
    for folder, own in names.items():
        for found in folder.glob(".*.partial"):
            if leftover_of(found) not in own or time.time() - found.stat().st_mtime < min_age_s:
                continue
            if found.is_dir():
                shutil.rmtree(found)
            else:
                found.unlink(missing_ok=True)


def to_disk(file: Path) -> None:
    """Have a file's content on the disk, before anything says that it is finished.

    Raises:
        OSError
    """
    with file.open("r+b" if os.name == "nt" else "rb") as opened:  # Windows requires a file that is open for writing
        os.fsync(opened.fileno())


def _folder_to_disk(folder: Path) -> None:
    """Where the platform and the file system can: the names in it would else be lost with the power."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
