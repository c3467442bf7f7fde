"""The folder of a job that goes on after a stop. `job.json` says what was asked for: no other job goes on there."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from filelock import FileLock, Timeout

from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest import File
from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.errors import InputError
from caflow_runtime.judge import calibration
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.strict_json import WrongJson, read_json
from caflow_runtime.whole_files import LEFTOVER, write_whole

NAME, LOCK = "job.json", ".lock"
SHOWN = 16
"""Characters of a setting: hashes are long."""


class State(msgspec.Struct):
    """`job.json`."""

    settings: dict[str, Any]
    """All that the results depend on."""

    def write(self, folder: Path) -> None:
        """Whole or not at all, even if the machine stops."""
        write_whole(folder / NAME, msgspec.json.encode(self))


def is_passing(path: Path) -> bool:
    """Whether a file in a job's folder is there only while a process runs, or after it was killed."""
    return path.name == LOCK or LEFTOVER.fullmatch(path.name) is not None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder until the block ends, so that no other job writes to it. The folder is made if it does not exist.

    The lock is a file in the folder. The system releases it when the process ends, even if the process is killed. A
    folder that is empty at the end is removed, unless it was empty before.

    Raises:
        InputError: if another process holds the folder.
        OSError: if the folder cannot be made or written to.
    """
    was_empty = folder.is_dir() and not any(folder.iterdir())
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"another process works in {folder}: wait for it, or give another -o") from None
    try:
        yield
    finally:
        with suppress(OSError):  # before the release: afterwards it may be the file of another process
            (folder / LOCK).unlink()
        lock.release()
        if not was_empty:
            with suppress(OSError):  # there is something in it
                folder.rmdir()


def is_intact(folder: Path, file: File) -> bool:
    """Whether a file of a job still is as `describe_file` found it when it was finished."""
    path = folder / file.path
    try:
        return path.stat().st_size == file.bytes and sha256_of(path) == file.sha256
    except OSError:
        return False


def stamp_of(path: str | Path) -> str | None:
    """The size of a file in bytes and the time when it was last changed in nanoseconds; None if it cannot be found.

    A file whose contents changed has another stamp, unless its size and time were set to what they were.
    """
    try:
        found = Path(path).stat()
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    return f"{found.st_size}-{found.st_mtime_ns}"


def has_changed(path: str | Path, stamp: str | None) -> bool:
    """Whether a file is another one than when its stamp was taken. Of a file that is gone, results stay."""
    now = stamp_of(path)
    return now is not None and now != stamp


Kind = TypeVar("Kind", bound=State)


def read_state(folder: Path, kind: type[Kind], command: str) -> Kind | None:
    """That of a job in a folder; None where there is nothing.

    Arguments:
        command: whose jobs they are.

    Raises:
        InputError: if there is something else.
    """
    again = "give another -o, or --force to begin anew there"
    try:
        return read_json(folder / NAME, kind)
    except FileNotFoundError:
        if folder.is_dir() and not all(map(is_passing, folder.iterdir())):
            raise InputError(f"{folder} holds no job of {command}, but something else: {again}") from None
    except WrongJson as error:
        raise InputError(f"{folder / NAME} is not that of a job of {command}: {error}: {again}") from None
    return None


def check_same(folder: Path, found: dict[str, Any], settings: dict[str, Any]) -> None:
    """Whether a job is the one that is wanted.

    Raises:
        InputError: naming all that differs.
    """
    differing = [
        f"{key} {str(found.get(key))[:SHOWN]} (now {str(value)[:SHOWN]})"
        for key, value in settings.items()
        if found.get(key) != value
    ]
    if differing:
        raise InputError(
            f"{folder} holds a job with {', '.join(differing)}: give the same to resume, another -o, "
            "or --force to begin anew"
        )


def settings_of_pipeline(pipe: Pipeline) -> dict[str, Any]:
    """What all results of a pipeline depend on; a bundle that is not calibrated has None as the hash of that."""
    calibrated = pipe.folder / calibration.NAME
    return {
        "bundle": sha256_of(pipe.folder / MANIFEST),
        "calibration": sha256_of(calibrated) if calibrated.exists() else None,
        "precision": pipe.manifest.precision,
        "backend": pipe.backend,
    }
