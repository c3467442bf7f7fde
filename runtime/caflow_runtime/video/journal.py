"""`journal.json`: which segments of a job are finished, and what their files held then, so that it can be resumed."""

import re
from pathlib import Path
from typing import Annotated, Any

import msgspec

from caflow_runtime.bundle.manifest import File
from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.errors import InputError
from caflow_runtime.jobs.folder import is_intact, is_passing
from caflow_runtime.pipeline.results import REJECTED
from caflow_runtime.seal import is_sealed, sealed
from caflow_runtime.strict_json import WrongJson, read_json
from caflow_runtime.video.join import count_frames
from caflow_runtime.whole_files import write_whole

NAME = "journal.json"
OWN = re.compile(rf"{re.escape(NAME)}|\d{{5,}}\.\w+|joined\.\w+")
"""Names of files of a job."""

Number = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class Segment(msgspec.Struct, frozen=True):
    """A finished part of the result. Each is made of the same number of frames of the source."""

    file: File | None
    """As it was when it was finished; None where all frames are untypical and were dropped."""
    frames: Number
    """In the file: fewer than were drawn where untypical ones were dropped."""
    start: Number
    """When the file's first frame is shown, in ticks."""
    sample: Annotated[int, msgspec.Meta(ge=REJECTED, lt=2**31)]
    """Of its last frame: the one that the scene keeps."""


class Journal(msgspec.Struct):
    """What is finished, and of which job."""

    source: str
    """SHA-256 of a file, or the address of a source that cannot be resumed."""
    settings: dict[str, Any]
    segments: list[Segment] = msgspec.field(default_factory=list)
    sha256: str = ""
    """Of all other fields, when it was written (`seal`)."""

    def damaged(self, parts: Path) -> list[int]:
        """Numbers of the segments in the folder `parts` whose files are not what they were when they were finished."""
        return [number for number, segment in enumerate(self.segments) if not _is_whole(parts, segment)]

    def write(self, parts: Path) -> None:
        """Whole or not at all, even if the machine stops."""
        write_whole(parts / NAME, msgspec.json.encode(sealed(self)))


def segment_name(number: int, suffix: str) -> str:
    """Of the file of a segment."""
    return f"{number:05d}{suffix}"


def _is_whole(parts: Path, segment: Segment) -> bool:
    if segment.file is None:
        return segment.frames == 0
    return is_intact(parts, segment.file) and count_frames(parts / segment.file.path) == segment.frames


def check_resumable(parts: Path, source: Path | None, name: str) -> None:
    """Whether `parts` is the folder of a job that can be resumed.

    Arguments:
        source: the file; None for a live source.
        name: of the source, for people.

    Raises:
        InputError
    """
    if source is None:
        raise InputError(f"{name} has gone on in the meantime: --resume is for files")
    if not (parts / NAME).is_file():
        raise InputError(f"{parts}: there is no job to resume: omit --resume")


def open_journal(parts: Path, source: Path | None, name: str, settings: dict[str, Any], resume: bool) -> Journal:
    """The journal of the job to resume in the folder `parts`, or of a new job.

    Arguments:
        source, name: as of `check_resumable`.
        settings: all that the result depends on.

    Raises:
        InputError: if `parts` holds another job, or the same one and `resume` is not given, or something else.
    """
    wanted = Journal(sha256_of(source) if source else name, msgspec.json.decode(msgspec.json.encode(settings)))
    if not (parts / NAME).is_file():
        if not all(map(is_passing, parts.iterdir())):
            raise InputError(f"{parts} is where this job would keep its parts, and something else is in it: move that")
        wanted.write(parts)
        return wanted
    found, anew = _read(parts), f"to begin anew, remove {parts} and give --force"
    if source is None:
        raise InputError(f"{parts} holds a job that was stopped; its files play: move or remove that folder")
    if (why := _why_other(found, wanted, name)) is not None:
        same = "give the same to resume, or, " if resume else ""
        raise InputError(f"{parts} holds another job that was stopped: {why}: {same}{anew}")
    if not resume:
        raise InputError(f"{parts} holds this job, which was stopped: give --resume to continue, or, {anew}")
    return found


def _read(parts: Path) -> Journal:
    try:
        found = read_json(parts / NAME, Journal)
    except WrongJson as error:
        raise InputError(f"{parts / NAME} cannot be read: {error}: remove {parts} and give --force") from None
    if not is_sealed(found):
        raise InputError(f"{parts / NAME} is not what was written: remove {parts} and give --force")
    for number, segment in enumerate(found.segments):
        name = segment.file.path if segment.file else ""
        if segment.file and name != segment_name(number, Path(name).suffix):
            raise InputError(f"{parts / NAME}: segment {number} cannot be {name!r}: remove {parts} and give --force")
        if segment.file and (parts / name).is_dir():
            raise InputError(f"{parts / name} was a segment, and is a folder now: move that")
    return found


def _why_other(found: Journal, wanted: Journal, name: str) -> str | None:
    """What tells two jobs apart."""
    if found.source != wanted.source:
        return f"it is of another video than {name}, or that file has changed"
    for key in found.settings | wanted.settings:
        before, now = found.settings.get(key), wanted.settings.get(key)
        if before != now:
            return f"it was begun with {key} = {before!r}, now that is {now!r}"
    return None
