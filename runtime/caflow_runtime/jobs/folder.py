"""The folder of a job that the same command resumes. `job.json` holds its settings: no other job is resumed there."""

import os
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
from caflow_runtime.whole_files import leftover_of, write_whole

NAME, LOCK = "job.json", ".lock"
SHOWN = 16
"""Characters of a setting: hashes are long."""


class PipelineSettings(msgspec.Struct, frozen=True):
    """What all results of a pipeline depend on."""

    bundle: str
    """SHA-256 of its manifest, which has those of all other files."""
    calibration: str | None
    """SHA-256; None where the bundle is not calibrated."""
    precision: str
    backend: str
    pixel_budget: int | None = None
    overlap: int | None = None
    """As given; None is the default."""


class State(msgspec.Struct):
    """`job.json`."""

    settings: dict[str, Any]
    """All that the results depend on, as `flat` gives it."""
    command: str
    """Whose job it is, such as `caflow image`."""

    def write(self, folder: Path) -> None:
        """Whole or not at all, even if the machine stops."""
        write_whole(folder / NAME, msgspec.json.encode(self))


def is_passing(path: Path) -> bool:
    """Whether a file in a job's folder is there only while a process runs, or after it was killed."""
    return path.name == LOCK or leftover_of(path) is not None


def make_folder(folder: Path) -> None:
    """One that results are written to, and those above it.

    Raises:
        InputError: if it cannot be written to.
        OSError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{folder}: wanted a folder for results, a file is in its place: give another -o") from None
    if not os.access(folder, os.W_OK):
        raise InputError(f"{folder}: cannot be written to")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder until the block ends, so that no other job writes to it. The folder is made if it does not exist.

    The lock is a file in the folder. The system releases it when the process ends, even if the process is killed. A
    folder that is empty at the end is removed, unless it was empty before.

    Raises:
        InputError: if another process holds the folder, or it cannot be written to.
        OSError: if it cannot be made.
    """
    was_empty = folder.is_dir() and not any(folder.iterdir())
    make_folder(folder)
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


def read_state(folder: Path, kind: type[Kind], command: str) -> Kind:
    """Return the state of a job in a folder.

    Arguments:
        command: whose jobs it may be.

    Raises:
        InputError: if it is not that of such a job.
        OSError: FileNotFoundError if there is none.
    """
    again = "give another -o, or --force to begin anew there"
    try:
        found = read_json(folder / NAME, kind)
    except WrongJson as error:
        raise InputError(f"{folder / NAME} is not that of a job of {command}: {error}: {again}") from None
    if found.command != command:
        raise InputError(f"{folder} holds a job of {found.command}, not of {command}: {again}")
    return found


def check_same(folder: Path, found: State, settings: msgspec.Struct) -> None:
    """Whether a job is the one that is wanted.

    Raises:
        InputError: naming all that differs.
    """
    wanted = flat(settings)
    differing = [
        f"{key} {str(found.settings.get(key))[:SHOWN]} (now {str(wanted.get(key))[:SHOWN]})"
        for key in wanted | found.settings
        if found.settings.get(key) != wanted.get(key)
    ]
    if differing:
        raise InputError(
            f"{folder} holds a job with {', '.join(differing)}: give the same to resume, another -o, "
            "or --force to begin anew"
        )


def flat(settings: msgspec.Struct) -> dict[str, Any]:
    """Return fields as JSON has them, with the fields of structs and dataclasses inside in place of these."""
    return _flat(msgspec.json.decode(msgspec.json.encode(settings)))


def _flat(fields: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in fields.items():
        found |= _flat(value) if isinstance(value, dict) else {name: value}
    return found


def settings_of_pipeline(
    pipe: Pipeline, pixel_budget: int | None = None, overlap: int | None = None
) -> PipelineSettings:
    """Return what all results of a pipeline depend on.

    Arguments:
        pixel_budget, overlap: as it was opened with; None is the default.
    """
    calibrated = pipe.folder / calibration.NAME
    return PipelineSettings(
        sha256_of(pipe.folder / MANIFEST),
        sha256_of(calibrated) if calibrated.exists() else None,
        pipe.manifest.precision,
        pipe.backend,
        pixel_budget,
        overlap,
    )
