"""Folder of a video job, `OUT.segments`.

It contains `job.json` with the settings, a file for each segment, and `segments.jsonl` with a line for each finished
segment. One process and workers write the same files and lines, so a job that was started one way can be resumed the
other way.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec

from caflow_deploy.images.file_search import JOB_FILE
from caflow_deploy.jobs.folder import (
    PipelineSettings,
    State,
    find_job,
    flat,
    is_intact,
    is_passing,
)
from caflow_deploy.jobs.journal import Journal
from caflow_deploy.video.encoding import Encoding
from caflow_deploy.video.frame_source import WHOLE, Source, TimeRange
from caflow_deploy.video.join import SegmentPart
from caflow_deploy.video.numbered import sha256_of_numbered
from caflow_deploy.video.segment_lengths import first_frame, frames_of_segment
from caflow_runtime.bundle.manifest import File
from caflow_runtime.bundle.reading import sha256_of
from caflow_runtime.errors import InputError
from caflow_runtime.file_io.atomic_files import leftover_of, remove_leftovers
from caflow_runtime.pipeline.results import REJECTED
from caflow_runtime.pipeline.stream import StreamSettings

COMMAND = "caflow video"
OPTIONS = {"given_format": "`pixel_format`", "bits": "", "frame": "", "has_alpha": "", "multiple": ""}
"""Options of the settings that have another name (`check_same`)."""
JOURNAL = "segments.jsonl"
OWN = re.compile(rf"{re.escape(JOB_FILE)}|{re.escape(JOURNAL)}|\d{{5,}}\.\w+")
"""Names of the files of a job: `job.json`, the journal and the segments."""

Number = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class VideoSettings(msgspec.Struct, frozen=True):
    """Everything that the result of a video job depends on."""

    pipeline: PipelineSettings
    streaming: StreamSettings
    encoding: Encoding
    segment_frames: int
    """Usual number of frames of a segment; the first ones are shorter (`segment_lengths`)."""
    source: str
    """`identity_of` the source."""
    cut: TimeRange = WHOLE
    rate: str | None = None
    """Frames per second of numbered images; None for all other sources."""


class VideoState(State):
    """Contents of `job.json`."""

    frames: Number = 0
    """Number of frames of the source in the output, which an earlier stop has written."""
    written: Number = 0
    """Number of frames in that output."""
    rejected: Number = 0
    """Number of its frames without a finite sample."""
    untypical: Number = 0
    """Number of its frames whose typicality is below the threshold."""


class SegmentRecord(msgspec.Struct, frozen=True):
    """Finished segment: its line in the journal."""

    number: Number
    first: Number
    """Number of the segment's first frame in the source."""
    frames: Number
    """Number of frames of the source in the segment."""
    written: Number
    """Number of frames in the file: fewer than `frames` if untypical frames were dropped."""
    rejected: Number
    """Number of frames without a finite sample."""
    untypical: Number
    """Number of frames whose typicality is below the threshold."""
    sample: Annotated[int, msgspec.Meta(ge=REJECTED, lt=2**31)]
    """Number of the sample that the last frame's scene keeps, from 0; `REJECTED` if there is none."""
    bits_per_dim: float | None
    """Mean over the frames that are not rejected; None if all are rejected."""
    start: Number | None
    """Time of the file's first frame, in ticks. None if all frames were dropped; then there is no file."""
    file: File | None
    """The segment's video file, with its final size and hash. None if all frames were dropped."""
    sha256: str = ""
    """Hash of all other fields."""


def identity_of(source: Source) -> str:
    """Return a text that identifies a source: the SHA-256 of its file or images, or its name if it has no path."""
    if source.path is None:
        return source.name
    return sha256_of(source.path) if source.path.exists() else sha256_of_numbered(source.path)


def folder_of(output: Path) -> Path:
    """Return the folder of the job that writes `output`."""
    return output.with_name(f"{output.name}.segments")


def holds_a_job(output: Path) -> bool:
    """Return whether there is an unfinished job that writes `output`."""
    return (folder_of(output) / JOB_FILE).is_file()


def find_video_job(folder: Path, settings: VideoSettings) -> VideoState | None:
    """Return the state of the job in a folder, if these settings can resume it; None if there is no job.

    Nothing is changed.

    Raises:
        InputError: if the folder contains another job, or files that do not belong to a job.
        OSError: if a file cannot be read.
    """
    _check_own(folder)
    return find_job(folder, VideoState, COMMAND, settings, OPTIONS)


def open_folder(folder: Path, settings: VideoSettings, force: bool) -> VideoState:
    """Start a job in its folder, which the caller has locked (`exclusive_lock`), or resume the job that is there.

    Arguments:
        force: discard the job that is there, and start again.

    Raises:
        InputError: if the folder contains another job, or files that do not belong to a job.
        OSError: if a file cannot be read or written.
    """
    _check_own(folder)
    state = None if force else find_video_job(folder, settings)
    if state is None:
        remove_segments(folder)
        folder.mkdir(exist_ok=True)
        state = VideoState(flat(settings), COMMAND)
        state.write(folder)
    for path in folder.iterdir():
        if OWN.fullmatch(path.name) and path.is_dir():
            raise InputError(
                f"{path} is a folder, but this job must write a file of that name: move the folder elsewhere"
            )
    remove_leftovers(folder / name for path in folder.iterdir() if (name := leftover_of(path)) and OWN.fullmatch(name))
    return state


def _check_own(folder: Path) -> None:
    foreign = [path.name for path in folder.iterdir() if not is_passing(path)] if folder.is_dir() else []
    if foreign and not (folder / JOB_FILE).is_file():
        raise InputError(
            f"{folder} must be free for the segments of this job, but contains {foreign[0]}: move that elsewhere"
        )


def remove_segments(folder: Path) -> None:
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
    """Return the name of a segment's file."""
    return f"{number:05d}{suffix}"


def open_journal(folder: Path) -> Journal[SegmentRecord]:
    """Return the journal of the job in a folder."""
    return Journal(folder / JOURNAL, SegmentRecord)


def read_segments(folder: Path, settings: VideoSettings) -> dict[int, SegmentRecord]:
    """Return the segments that need not be drawn again, by their numbers. Nothing is changed.

    Raises:
        OSError: if a file cannot be read.
    """
    return open_journal(folder).find(partial(_number_of, folder, settings.segment_frames))


def resume_segments(folder: Path, settings: VideoSettings) -> dict[int, SegmentRecord]:
    """Return the segments that need not be drawn again, by their numbers. The lines of others are removed.

    Raises:
        OSError: if a file cannot be read or written.
    """
    return open_journal(folder).resume(partial(_number_of, folder, settings.segment_frames))


def _number_of(folder: Path, segment_frames: int, record: SegmentRecord) -> int | None:
    """Return the number of a segment; None if it does not belong to the job, or its file has changed."""
    number = record.number
    if record.first != first_frame(number, segment_frames) or record.frames > frames_of_segment(number, segment_frames):
        return None
    if record.file is None:
        return number if record.start is None and not record.written else None
    is_own = record.start is not None and Path(record.file.path).stem == segment_name(number, "")
    return number if is_own and is_intact(folder, record.file) else None


def first_segments(records: Mapping[int, SegmentRecord]) -> list[SegmentRecord]:
    """Return the segments before the first one that is missing."""
    return [records[number] for number in range(first_missing(records))]


def first_missing(records: Mapping[int, SegmentRecord]) -> int:
    """Return the number of the first segment without a record."""
    number = 0
    while number in records:
        number += 1
    return number


def files_of(folder: Path, records: Iterable[SegmentRecord]) -> list[SegmentPart]:
    """Return the files of segments; segments without a file are skipped."""
    return [
        SegmentPart(folder / record.file.path, record.start, record.written)
        for record in records
        if record.file is not None and record.start is not None
    ]
