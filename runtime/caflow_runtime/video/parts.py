"""`OUT.parts`: the folder of a video's job. `job.json` says which job it is; a finished segment is a file and a record.

One process and workers keep the same records, so a job that was begun one way can be resumed the other way. What one
process draws depends on all frames before, what a worker draws on the scene's first frame alone: the two differ where a
scene's sample is not finite on a later frame. A record says whether that happened (`is_settled`).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from caflow_runtime.bundle.manifest import File
from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.errors import InputError
from caflow_runtime.jobs.folder import (
    NAME,
    PipelineSettings,
    State,
    check_same,
    flat,
    is_intact,
    is_passing,
    read_state,
)
from caflow_runtime.pipeline.results import REJECTED
from caflow_runtime.pipeline.stream import StreamSettings
from caflow_runtime.seal import is_sealed, sealed
from caflow_runtime.strict_json import WrongJson, read_json
from caflow_runtime.video.cut import WHOLE, Cut
from caflow_runtime.video.join import VideoPart
from caflow_runtime.video.numbered import sha256_of_numbered
from caflow_runtime.video.sink import Encoding
from caflow_runtime.video.source import Source
from caflow_runtime.whole_files import leftover_of, remove_leftovers, write_whole

COMMAND = "caflow video"
RECORD = ".json"
OWN = re.compile(rf"{re.escape(NAME)}|\d{{5,}}\.\w+")
"""Names of files of a job: segments, and what is known of them."""

Number = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
DrawnBy = Literal["one process", "workers"]


class VideoSettings(msgspec.Struct, frozen=True):
    """All that a video depends on."""

    pipeline: PipelineSettings
    streaming: StreamSettings
    encoding: Encoding
    segment_frames: int
    source: str
    """`identity_of` it."""
    cut: Cut = WHOLE
    rate: str | None = None
    """Frames per second of numbered images, where it was given."""

    @property
    def made_of(self) -> str:
        """Hash of what a segment depends on, without how the video is cut into segments, and images into tiles."""
        pipeline = msgspec.structs.replace(self.pipeline, pixel_budget=None, overlap=None)
        whole = msgspec.structs.replace(self, pipeline=pipeline, segment_frames=0)
        return hashlib.sha256(msgspec.json.encode(whole)).hexdigest()


class Report(msgspec.Struct, frozen=True):
    """What became of a segment."""

    number: Number
    frames: Number
    """Of the source."""
    rejected: Number
    untypical: Number
    sample: Annotated[int, msgspec.Meta(ge=REJECTED, lt=2**31)]
    """Of the last frame: the one that its scene keeps."""
    bits_per_dim: float | None
    """Mean of the frames that are not rejected; None where all are."""
    start: Number | None
    """Ticks of its file's first frame; None where all frames are dropped, and there is no file."""
    drawn: bool = True
    """Whether it was drawn now; False where it was there."""


class Record(msgspec.Struct, frozen=True):
    """A JSON file beside the file of a finished segment."""

    report: Report
    first: Number
    """Number of the segment's first frame in the source."""
    file: File | None
    """As it was when it was finished; None where all frames are dropped."""
    frames: Number
    """In the file: fewer than were drawn where untypical ones were dropped."""
    is_settled: bool
    """Whether each scene kept the sample that was chosen on its first frame."""
    drawn_by: DrawnBy
    made_of: str
    """`VideoSettings.made_of`."""
    sha256: str = ""
    """Of all other fields (`seal`)."""


def identity_of(source: Source) -> str:
    """Return what tells a source from others: the SHA-256 of a file, or of all; or the address of a live source."""
    if source.path is None:
        return source.name
    return sha256_of(source.path) if source.path.exists() else sha256_of_numbered(source.path)


def parts_of(output: Path) -> Path:
    """The folder of a job that writes to a file."""
    return output.with_name(f"{output.name}.parts")


def holds_a_job(output: Path) -> bool:
    """Whether a job that writes to a file was begun and is not done."""
    return (parts_of(output) / NAME).is_file()


def open_parts(folder: Path, settings: VideoSettings, force: bool) -> None:
    """Begin a job in its folder, or resume the one that is there. The caller holds the folder (`alone`).

    Arguments:
        force: begin anew, whatever job is there.

    Raises:
        InputError: if the folder holds another job, or something else.
        OSError
    """
    holds_one = (folder / NAME).is_file()
    foreign = [path.name for path in folder.iterdir() if not is_passing(path)]
    if foreign and not holds_one:
        raise InputError(f"{folder} is where this job would keep its parts, and {foreign[0]} is in it: move that")
    if holds_one and not force:
        check_same(folder, read_state(folder, State, COMMAND), settings)
    else:
        remove_parts(folder)
        folder.mkdir(exist_ok=True)
        State(flat(settings), COMMAND).write(folder)
    for path in folder.iterdir():
        if OWN.fullmatch(path.name) and path.is_dir():
            raise InputError(f"{path} is where this job would keep a file, and is a folder: move that")
    remove_leftovers(folder / name for path in folder.iterdir() if (name := leftover_of(path)) and OWN.fullmatch(name))


def remove_parts(folder: Path) -> None:
    """Remove the files of a job, and the folder unless something else is in it. Without a job, nothing is removed."""
    if not (folder / NAME).is_file():
        return
    own = [path for path in folder.iterdir() if OWN.fullmatch(path.name) and not path.is_dir()]
    for path in sorted(own, key=lambda path: path.name == NAME):  # that one last: it says whose the others are
        path.unlink()
    with suppress(OSError):  # the caller holds it, or something else is in it
        folder.rmdir()


def segment_name(number: int, suffix: str) -> str:
    """Name of the file of a segment, or of its record."""
    return f"{number:05d}{suffix}"


def write_record(folder: Path, record: Record) -> None:
    """Write what is known of a segment whose file is whole and on the disk."""
    write_whole(folder / segment_name(record.report.number, RECORD), msgspec.json.encode(sealed(record)))


def read_record(folder: Path, number: int, made_of: str | None = None) -> Record | None:
    """Return what is known of a segment. None if there is no record, or it or its file is damaged.

    Arguments:
        made_of: where the record is of something else, None is returned, too.

    Raises:
        OSError
    """
    path = folder / segment_name(number, RECORD)
    try:
        record = read_json(path, Record)
    except (FileNotFoundError, WrongJson):
        return None
    if not is_sealed(record) or record.report.number != number or made_of not in (None, record.made_of):
        return None
    if record.file is None:
        return record if record.report.start is None and not record.frames else None
    is_own = record.report.start is not None and Path(record.file.path).stem == path.stem
    return record if is_own and is_intact(folder, record.file) else None


def read_records(folder: Path, settings: VideoSettings, drawn_by: DrawnBy) -> dict[int, Record]:
    """Return the records of the segments that need not be drawn again, by their numbers.

    What was drawn the other way counts as far as there is no gap before: after one, it may not fit what is still drawn.

    Raises:
        InputError: if the other way would have drawn other pictures.
        OSError
    """
    numbers = sorted(int(path.stem) for path in folder.glob(f"*{RECORD}") if re.fullmatch(r"\d{5,}", path.stem))
    found = {number: read_record(folder, number, settings.made_of) for number in numbers}
    records = {
        number: record
        for number, record in found.items()
        if record is not None and record.first == number * settings.segment_frames
    }
    for number, record in records.items():
        if record.drawn_by != drawn_by and not record.is_settled:
            way = "without --workers and --ray" if record.drawn_by == "one process" else "with --workers or --ray"
            raise InputError(
                f"{folder} holds a job that must be resumed {way}, as it was begun: in segment {number} the sample "
                "that a scene keeps was not finite, so the frames that follow would be others: run it so, or give "
                "--force to begin anew"
            )
    gap = first_missing(records)
    return {number: record for number, record in records.items() if number < gap or record.drawn_by == drawn_by}


def first_missing(records: Mapping[int, Record]) -> int:
    """Number of the first segment without a record."""
    number = 0
    while number in records:
        number += 1
    return number


def parts_in(folder: Path, records: Iterable[Record]) -> list[VideoPart]:
    """The files of finished segments."""
    return [
        VideoPart(folder / record.file.path, record.report.start, record.frames)
        for record in records
        if record.file is not None and record.report.start is not None
    ]
