"""Folder of a video job, `OUT.parts`. It contains `job.json` with the settings, and a file and a record per segment.

One process and workers keep the same records, so a job that was started one way can be resumed the other way. There is
one exception. If a scene's sample is not finite on a later frame, one process chooses another sample from there on. A
worker that starts after that frame does not know this, and keeps the sample of the scene's first frame.
`Record.is_settled` says whether every scene of a segment kept its first sample.
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
from caflow_runtime.job_file import JOB_FILE
from caflow_runtime.jobs.folder import (
    PipelineSettings,
    State,
    find_job,
    flat,
    is_intact,
    is_passing,
)
from caflow_runtime.pipeline.results import REJECTED
from caflow_runtime.pipeline.stream import StreamSettings
from caflow_runtime.seal import is_sealed, sealed
from caflow_runtime.strict_json import WrongJson, read_json
from caflow_runtime.video.cut import WHOLE, Cut
from caflow_runtime.video.encoding import Encoding
from caflow_runtime.video.join import VideoPart
from caflow_runtime.video.numbered import sha256_of_numbered
from caflow_runtime.video.segment_lengths import first_frame, frames_of_segment
from caflow_runtime.video.source import Source
from caflow_runtime.whole_files import leftover_of, remove_leftovers, write_whole

COMMAND = "caflow video"
OPTIONS = {"given_format": "--pixel-format", "bits": "", "frame": "", "has_alpha": "", "multiple": ""}
"""Options of the settings that have another name (`check_same`)."""
RECORD = ".json"
OWN = re.compile(rf"{re.escape(JOB_FILE)}|\d{{5,}}\.\w+")
"""Names of the files of a job: `job.json`, segments and records."""

Number = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
DrawnBy = Literal["one process", "workers"]


class VideoSettings(msgspec.Struct, frozen=True):
    """Everything that the result of a video job depends on."""

    pipeline: PipelineSettings
    streaming: StreamSettings
    encoding: Encoding
    segment_frames: int
    """Usual number of frames of a segment; the first ones are shorter (`segment_lengths`)."""
    source: str
    """`identity_of` the source."""
    cut: Cut = WHOLE
    rate: str | None = None
    """Frames per second of numbered images; None for all other sources."""

    @property
    def made_of(self) -> str:
        """Hash of the settings that a segment depends on.

        The length of segments, the pixel budget and the overlap of tiles are not included.
        """
        pipeline = msgspec.structs.replace(self.pipeline, pixel_budget=None, overlap=None)
        whole = msgspec.structs.replace(self, pipeline=pipeline, segment_frames=0)
        return hashlib.sha256(msgspec.json.encode(whole)).hexdigest()


class Report(msgspec.Struct, frozen=True):
    """Outcome of one segment."""

    number: Number
    frames: Number
    """Number of frames of the source in the segment."""
    rejected: Number
    """Number of frames without a finite sample."""
    untypical: Number
    """Number of frames whose typicality is below the threshold."""
    sample: Annotated[int, msgspec.Meta(ge=REJECTED, lt=2**31)]
    """Number of the last frame's sample, which its scene keeps, from 0. `REJECTED` if no sample was finite."""
    bits_per_dim: float | None
    """Mean over the frames that are not rejected; None if all are rejected."""
    start: Number | None
    """Time of the file's first frame, in ticks. None if all frames were dropped; then there is no file."""
    drawn: bool = True
    """Whether this run drew the segment; False if an earlier run did."""


class Record(msgspec.Struct, frozen=True):
    """JSON file that describes one finished segment. It is written beside the segment's video file."""

    report: Report
    first: Number
    """Number of the segment's first frame in the source."""
    file: File | None
    """The segment's video file, with its final size and hash. None if all frames were dropped."""
    frames: Number
    """Number of frames in the file: fewer than `report.frames` if untypical frames were dropped."""
    is_settled: bool
    """Whether each scene kept the sample that was chosen on its first frame."""
    drawn_by: DrawnBy
    made_of: str
    """`VideoSettings.made_of` of the job."""
    sha256: str = ""
    """Hash of all other fields (`seal`)."""


def identity_of(source: Source) -> str:
    """Return a text that identifies a source: the SHA-256 of its file or images, or its name if it has no path."""
    if source.path is None:
        return source.name
    return sha256_of(source.path) if source.path.exists() else sha256_of_numbered(source.path)


def parts_of(output: Path) -> Path:
    """Return the folder of the job that writes `output`."""
    return output.with_name(f"{output.name}.parts")


def holds_a_job(output: Path) -> bool:
    """Return whether there is an unfinished job that writes `output`."""
    return (parts_of(output) / JOB_FILE).is_file()


def holds_same_job(folder: Path, settings: VideoSettings) -> bool:
    """Return whether a folder contains a job that can be resumed with these settings. Nothing is changed.

    Raises:
        InputError: if the folder contains another job, or files that do not belong to a job.
        OSError: if a file cannot be read.
    """
    _check_own(folder)
    return find_job(folder, State, COMMAND, settings, OPTIONS) is not None


def open_parts(folder: Path, settings: VideoSettings, force: bool) -> None:
    """Start a job in its folder, or resume the job that is there. The caller must hold its `exclusive_lock`.

    Arguments:
        force: discard the job that is there, and start again.

    Raises:
        InputError: if the folder contains another job, or files that do not belong to a job.
        OSError: if a file cannot be read or written.
    """
    _check_own(folder)
    if force or not holds_same_job(folder, settings):
        remove_parts(folder)
        folder.mkdir(exist_ok=True)
        State(flat(settings), COMMAND).write(folder)
    for path in folder.iterdir():
        if OWN.fullmatch(path.name) and path.is_dir():
            raise InputError(
                f"{path} is a folder, but this job must write a file of that name: move the folder elsewhere"
            )
    remove_leftovers(folder / name for path in folder.iterdir() if (name := leftover_of(path)) and OWN.fullmatch(name))


def _check_own(folder: Path) -> None:
    foreign = [path.name for path in folder.iterdir() if not is_passing(path)] if folder.is_dir() else []
    if foreign and not (folder / JOB_FILE).is_file():
        raise InputError(
            f"{folder} must be free for the parts of this job, but contains {foreign[0]}: move that elsewhere"
        )


def remove_parts(folder: Path) -> None:
    """Remove the files of a job, and the folder if it is then empty. Do nothing if the folder contains no job."""
    if not (folder / JOB_FILE).is_file():
        return
    own = [path for path in folder.iterdir() if OWN.fullmatch(path.name) and not path.is_dir()]
    own.sort(key=lambda path: path.name == JOB_FILE)  # job.json last: it marks the other files as a job's
    for path in own:
        path.unlink()
    with suppress(OSError):  # not empty: the caller's lock, or files that are not the job's
        folder.rmdir()


def segment_name(number: int, suffix: str) -> str:
    """Return the name of a segment's file, or of its record."""
    return f"{number:05d}{suffix}"


def write_record(folder: Path, record: Record) -> None:
    """Write the record of a segment. The segment's file must already be complete and flushed to disk."""
    write_whole(folder / segment_name(record.report.number, RECORD), msgspec.json.encode(sealed(record)))


def read_record(folder: Path, number: int, made_of: str | None = None) -> Record | None:
    """Return the record of a segment, or None if the record is missing or if the record or its file is damaged.

    Arguments:
        made_of: if given, also return None for a record with another `made_of`.

    Raises:
        OSError: if a file cannot be read or written.
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
    """Return the records of the segments that need not be drawn again, by segment number.

    Segments that were drawn the other way, by workers or by one process, count only before the first missing segment.
    After a gap, they may not fit the frames that are still to be drawn.

    Raises:
        InputError: if the job must be resumed the way it was started, because the other way would draw other pictures.
        OSError: if a file cannot be read or written.
    """
    numbers = sorted(int(path.stem) for path in folder.glob(f"*{RECORD}") if re.fullmatch(r"\d{5,}", path.stem))
    found = {number: read_record(folder, number, settings.made_of) for number in numbers}
    records = {
        number: record
        for number, record in found.items()
        if record is not None
        and record.first == first_frame(number, settings.segment_frames)
        and record.report.frames <= frames_of_segment(number, settings.segment_frames)
    }
    for number, record in records.items():
        if record.drawn_by != drawn_by and not record.is_settled:
            way = "without --workers and --ray" if record.drawn_by == "one process" else "with --workers or --ray"
            raise InputError(
                f"{folder} contains a job that must be resumed {way}, as it was started: in segment {number} a scene's "
                f"sample was not finite, so the later frames would differ: run it {way}, or start again with --force"
            )
    gap = first_missing(records)
    return {number: record for number, record in records.items() if number < gap or record.drawn_by == drawn_by}


def first_missing(records: Mapping[int, Record]) -> int:
    """Return the number of the first segment without a record."""
    number = 0
    while number in records:
        number += 1
    return number


def parts_in(folder: Path, records: Iterable[Record]) -> list[VideoPart]:
    """Return the files of finished segments; segments without a file are skipped."""
    return [
        VideoPart(folder / record.file.path, record.report.start, record.frames)
        for record in records
        if record.file is not None and record.report.start is not None
    ]
