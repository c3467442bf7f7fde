"""Atomic writing of files and folders: completely or not at all, even if the process is killed or the machine stops.

Until NAME is complete, it is written beside its final place as `.NAME.TOKEN.partial`, or with a hash in place of a long
NAME. Each writer has its own token, so several processes may write the same file at the same time; the last process to
finish wins.
"""

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

TOKEN_BYTES = 4
MAX_NAME_BYTES = 255 - len(f"..{TOKEN_BYTES * '00'}.partial")
"""Length of a name with which the temporary name is not too long for file systems."""
LEFTOVER = re.compile(rf"\.(.+)\.[0-9a-f]{{{2 * TOKEN_BYTES}}}\.partial", re.DOTALL)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file atomically. It replaces an existing file.

    Raises:
        OSError: if the file cannot be written; an existing file is unchanged.
    """
    try:
        with atomic_file(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        error.filename = error.filename or str(path)  # the error of a full disk names no file
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file, which replaces `path` at the end of the block unless the block fails.

    Raises:
        OSError: if the file cannot be moved to its final place; an existing file is unchanged.
    """
    partial = partial_path(path)
    try:
        yield partial
        move_into_place(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new temporary folder, which replaces `path` at the end of the block unless the block fails.

    Only one process may write a folder at a time. At the end the old folder is removed, and so are leftovers of killed
    processes. If the process is killed while the folders are exchanged, the old folder remains under a temporary name.

    Raises:
        OSError: if a file cannot be read or written.
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
    """Move a finished file to `path` on the same file system, and flush the file and its folder to disk.

    Raises:
        OSError: if a file cannot be read or written.
    """
    to_disk(file)
    file.replace(path)
    _folder_to_disk(path.parent)


def partial_path(path: Path) -> Path:
    """Return a temporary name for `path` that no other process uses."""
    return path.with_name(f".{_short(path.name)}.{secrets.token_hex(TOKEN_BYTES)}.partial")


def leftover_of(path: Path) -> str | None:
    """Return the final name of a temporary file or folder, or None if `path` is not a temporary name.

    In place of a long name, its hash is returned.
    """
    found = LEFTOVER.fullmatch(path.name)
    return None if found is None else found[1]


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove leftovers of killed processes for these files and folders. No process may be writing them.

    Raises:
        OSError: if a file cannot be read or written.
    """
    names: dict[Path, set[str]] = {}
    for path in paths:
        names.setdefault(path.parent, set()).add(_short(path.name))
    for folder, own in names.items():
        for found in folder.glob(".*.partial"):
            if leftover_of(found) not in own:
                continue
            with suppress(FileNotFoundError):  # a live writer has moved it into place, or another process removed it
                remove(found)


def remove(path: Path) -> None:
    """Remove a file, a folder with everything in it, or a link.

    Raises:
        OSError: if something cannot be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _short(name: str) -> str:
    encoded = os.fsencode(name)
    return name if len(encoded) <= MAX_NAME_BYTES else sha256(encoded).hexdigest()


def to_disk(file: Path) -> None:
    """Flush a file's contents to disk. This must happen before the file is reported as finished.

    Raises:
        OSError: if a file cannot be read or written.
    """
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _folder_to_disk(folder: Path) -> None:
    """Flush a folder's entries to disk, where the file system supports it.

    Otherwise new names in the folder could be lost when power fails.
    """
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
