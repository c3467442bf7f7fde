"""The folder of a job that goes on after a stop. `job.json` says what was asked for: no other job goes on there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from caflow_runtime import calibration
from caflow_runtime.bundle import MANIFEST, sha256_of
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline import Pipeline
from caflow_runtime.strict_json import WrongJson, read_json

NAME, PARTIAL = "job.json", ".job.json.partial"
SHOWN = 16
"""Characters of a setting: hashes are long."""


class State(msgspec.Struct):
    """`job.json`."""

    settings: dict[str, Any]
    """All that the results depend on."""

    def write(self, folder: Path) -> None:
        """Whole or not at all, even if the machine stops."""
        write_whole(folder / NAME, folder / PARTIAL, msgspec.json.encode(self))


def write_whole(path: Path, partial: Path, content: bytes) -> None:
    """A file, whole or not at all, even if the machine stops; `partial` is what it is called until it is whole."""
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made if it is not there, until the block ends: two jobs there would spoil each other's
    results. The system lets go of it if the process dies. On Windows, and on file systems that cannot do it, nothing is
    held.

    Raises:
        InputError: if another process holds it.
        OSError: if it cannot be made.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    held = _hold(folder)
    try:
        yield
    finally:
        if held is not None:
            os.close(held)
        if is_new:
            with suppress(OSError):  # there is something in it
                folder.rmdir()


def _hold(folder: Path) -> int | None:
    try:
        import fcntl
    except ModuleNotFoundError:
        return None
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(opened)
        raise InputError(f"another process works in {folder}: wait for it, or give another -o") from None
    except OSError:
        os.close(opened)
        return None
    return opened


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
        if folder.is_dir() and any(path.name != PARTIAL for path in folder.iterdir()):
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
            f"{folder} holds a job with {', '.join(differing)}: give the same to go on, another -o, "
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
