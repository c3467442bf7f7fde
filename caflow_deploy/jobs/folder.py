"""Folder of a job that the same command resumes.

`job.json` stores the job's settings. A command with other settings is refused, so that results are never mixed. Only
one process can work in a folder at a time (`exclusive_lock`).
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from caflow_deploy.images.file_search import JOB_FILE
from caflow_runtime.bundle.file_names import MANIFEST
from caflow_runtime.bundle.manifest import File
from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.errors import InputError
from caflow_runtime.file_io.atomic_files import leftover_of, write_atomically
from caflow_runtime.file_io.folder_lock import LOCK, folder_lock
from caflow_runtime.file_io.strict_json import WrongJson, read_json
from caflow_runtime.ood import calibration
from caflow_runtime.pipeline.pipeline import Pipeline

CHANGED = {
    "bundle": "the model",
    "calibration": "the calibration of the model",
    "precision": "the model",
    "further_models": "the model or its choice (`model`)",
    "source": "the input file",
    "pairs": "the list of pairs",
    "start": "`start`",
    "end": "`end`",
    "hardware": "the encoder that `encoder` chooses",
}
"""Settings that messages only call changed, because their values, such as hashes, tell users nothing."""


class PipelineSettings(msgspec.Struct, frozen=True):
    """Settings of a pipeline that its results depend on."""

    bundle: str
    """SHA-256 of the bundle's manifest, which contains the hashes of all other files."""
    calibration: str | None
    """SHA-256 of the calibration; None if the bundle is not calibrated."""
    precision: str
    backend: str


class State(msgspec.Struct):
    """Contents of `job.json`."""

    settings: dict[str, Any]
    """All settings that the results depend on, in the form that `flat` returns."""
    command: str
    """Command that the job belongs to, such as `caflow image`."""

    def write(self, folder: Path) -> None:
        """Write `job.json`. If the process or the machine stops while writing, the old file stays unchanged."""
        write_atomically(folder / JOB_FILE, msgspec.json.encode(self))


def is_passing(path: Path) -> bool:
    """Return whether a file in a job's folder is temporary: the lock, or a file that is not completely written."""
    return path.name == LOCK or leftover_of(path) is not None


def make_folder(folder: Path) -> None:
    """Create a folder for results and its parent folders, if they do not exist.

    Raises:
        InputError: if a file has this name, or the folder cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(
            f"{folder} must be a folder, but this path or a part of it is a file or a broken link; choose another "
            "`output`"
        ) from None
    except OSError as error:
        raise InputError(f"{folder} cannot be created: {error.strerror}; choose another `output`") from None
    if not os.access(folder, os.W_OK):
        raise InputError(f"{folder} cannot be written to; change its permissions, or choose another `output`")


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Lock a folder until the block ends, so that no other job writes to it. Create the folder if it does not exist.

    A folder that is empty at the end is removed, unless it was empty before.

    Raises:
        InputError: if another process has locked the folder, or the folder cannot be created or written to.
    """
    was_empty = folder.is_dir() and not any(folder.iterdir())
    make_folder(folder)
    try:
        with folder_lock(folder) as is_free:
            if not is_free:
                raise InputError(
                    f"another process is working in {folder}; wait until it ends, or choose another `output`"
                )
            yield
    finally:
        if not was_empty:
            with suppress(OSError):  # The folder is not empty.
                folder.rmdir()


def is_intact(folder: Path, file: File) -> bool:
    """Return whether a finished file of a job still has the size and hash that `describe_file` recorded."""
    path = folder / file.path
    try:
        return path.stat().st_size == file.bytes and sha256_of(path) == file.sha256
    except OSError:
        return False


def stamp_of(path: str | Path) -> str | None:
    """Return the stamp of a file: its size in bytes and its modification time in nanoseconds; None if it is missing.

    If the contents of a file change, its stamp changes too, unless both size and time are restored.
    """
    try:
        found = Path(path).stat()
    except (OSError, ValueError):  # ValueError: the name is not valid for any file.
        return None
    return f"{found.st_size}-{found.st_mtime_ns}"


def has_changed(path: str | Path, stamp: str | None) -> bool:
    """Return whether a file has changed since its stamp was taken. A missing file counts as unchanged."""
    now = stamp_of(path)
    return now is not None and now != stamp


Kind = TypeVar("Kind", bound=State)


def find_job(
    folder: Path, kind: type[Kind], command: str, settings: msgspec.Struct, options: Mapping[str, str]
) -> Kind | None:
    """Return the state of the job in a folder, which can be resumed; None if there is no job. Nothing is changed.

    Arguments:
        command, settings, options: as in `read_state` and `check_same`.

    Raises:
        InputError: if the folder contains a job of another command or with other settings.
    """
    if not (folder / JOB_FILE).is_file():
        return None
    found = read_state(folder, kind, command)
    check_same(folder, found, settings, options)
    return found


def read_state(folder: Path, kind: type[Kind], command: str) -> Kind:
    """Return the state of the job in a folder.

    Arguments:
        command: the command that the job must belong to.

    Raises:
        InputError: if `job.json` is malformed, or the job belongs to another command.
        OSError: if `job.json` cannot be read; FileNotFoundError if there is none.
    """
    again = "choose another `output`, or use `force` to start again"
    try:
        found = read_json(folder / JOB_FILE, kind)
    except WrongJson as error:
        raise InputError(f"{folder / JOB_FILE} is not a job file of {command}: {error}; {again}") from None
    if found.command != command:
        raise InputError(f"{folder} contains a job of {found.command}, not of {command}; {again}")
    return found


def check_same(folder: Path, found: State, settings: msgspec.Struct, options: Mapping[str, str]) -> None:
    """Check that the job in a folder has the current settings.

    Arguments:
        options: options of the settings that have another name; empty for settings that follow from others.

    Raises:
        InputError: if settings differ. The message names each of them as users type it.
    """
    before, now = found.settings, flat(settings)
    differing = [key for key in now | before if before.get(key) != now.get(key)]
    if differing:
        named = [key for key in differing if options.get(key) != ""] or differing
        texts = (
            f"{CHANGED[key]} has changed"
            if key in CHANGED
            else f"{options.get(key) or f'`{key}`'} {_value(key, before)} (now {_value(key, now)})"
            for key in named
        )
        raise InputError(
            f"{folder} contains a job with other settings: {', '.join(dict.fromkeys(texts))}; use the same settings to "
            "resume it, choose another `output`, or use `force` to start again"
        )


def _value(key: str, settings: Mapping[str, Any]) -> str:
    """Return the value of a setting as users type it."""
    value = settings.get(key)
    if value is None or value is False or value == "":
        return "not given"
    if value is True:
        return "given"
    return ("x" if key == "fit" else ",").join(map(str, value)) if isinstance(value, list) else str(value)


def flat(settings: msgspec.Struct) -> dict[str, Any]:
    """Return settings as one flat dictionary of JSON values. Fields of nested structs are moved to the top level."""
    return _flat(msgspec.json.decode(msgspec.json.encode(settings)))


def _flat(fields: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in fields.items():
        found |= _flat(value) if isinstance(value, dict) else {name: value}
    return found


def settings_of_pipeline(pipe: Pipeline) -> PipelineSettings:
    """Return the settings of a pipeline that its results depend on."""
    calibrated = pipe.folder / calibration.NAME
    return PipelineSettings(
        sha256_of(pipe.folder / MANIFEST),
        sha256_of(calibrated) if calibrated.exists() else None,
        pipe.manifest.precision,
        pipe.backend,
    )
