"""`journal.json`: which segments of a job are finished, so that it can go on after a stop."""

from pathlib import Path
from typing import Any

import msgspec

from caflow_runtime.bundle import sha256_of
from caflow_runtime.errors import InputError
from caflow_runtime.job_folder import write_whole
from caflow_runtime.strict_json import WrongJson, read_json

NAME = "journal.json"
PARTIAL = f".{NAME}.partial"


class Segment(msgspec.Struct, frozen=True):
    """A finished part of the result."""

    file: str
    frames: int
    """Of the source; untypical ones may have been dropped."""
    start: int
    """Ticks."""
    sample: int
    """Of its last frame: the one that the scene keeps."""


class Journal(msgspec.Struct):
    """What is finished, and of which job."""

    source: str
    """SHA-256 of a file, or the address of what cannot be gone on with."""
    settings: dict[str, Any]
    segments: list[Segment] = msgspec.field(default_factory=list)

    @property
    def frames(self) -> int:
        """That are finished."""
        return sum(segment.frames for segment in self.segments)

    def write(self, parts: Path) -> None:
        """Whole or not at all, even if the machine stops."""
        write_whole(parts / NAME, parts / PARTIAL, msgspec.json.encode(self))


def open_journal(parts: Path, source: Path | None, name: str, settings: dict[str, Any], resume: bool) -> Journal:
    """The journal in the folder `parts` of a job to go on with, or a new one.

    Arguments:
        source: the file; None for a live source.
        name: of the source, for people.
        settings: all that the result depends on.

    Raises:
        InputError: if there is nothing to go on with, or a job that was not asked for, or another one.
    """
    if source is None and resume:
        raise InputError(f"{name} has gone on in the meantime: --resume is for files")
    if not (parts / NAME).is_file():
        if resume:
            raise InputError(f"{parts}: there is no job to go on with: leave out --resume")
        journal = Journal(sha256_of(source) if source else name, settings)
        parts.mkdir(exist_ok=True)
        if any(path.name != PARTIAL for path in parts.iterdir()):
            raise InputError(f"{parts} is where this job would keep its parts, and something else is in it: move that")
        journal.write(parts)
        return journal
    if not resume:
        way = (
            "give --resume to go on, or remove that folder" if source else "its files play; move or remove that folder"
        )
        raise InputError(f"{parts} holds a job that was stopped: {way}")
    assert source is not None
    try:
        found = read_json(parts / NAME, Journal)
    except WrongJson as error:
        raise InputError(f"{parts / NAME} cannot be read: {error}: remove {parts} and begin anew") from None
    if found.source != sha256_of(source):
        raise InputError(f"{parts} is of another video than {name}: give the same, or remove it")
    for key, value in msgspec.json.decode(msgspec.json.encode(settings)).items():
        if found.settings.get(key) != value:
            raise InputError(
                f"{parts} was begun with {key} = {found.settings.get(key)!r}, now it is {value!r}: "
                "give the same to go on, or remove it"
            )
    return found
