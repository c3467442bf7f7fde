"""Folder of a filter job: the settings, one line with a verdict for each pair, and files made from the verdicts.

`job.json` stores the settings, so that only the same job is resumed after an interruption. The accepted targets and
`scores.parquet` are made from `scores.jsonl` once all verdicts are there.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import msgspec

from caflow_runtime.errors import InputError
from caflow_runtime.job_file import JOB_FILE
from caflow_runtime.jobs.accepted import (
    FILES,
    LIST,
    LIST0,
    PLACES,
    Accepted,
    common_folder,
    place_files,
    place_of,
    write_list,
)
from caflow_runtime.jobs.folder import (
    PipelineSettings,
    State,
    check_same,
    flat,
    has_changed,
    is_passing,
    read_state,
)
from caflow_runtime.jobs.pairs import FilePair
from caflow_runtime.jobs.parquet import write_parquet
from caflow_runtime.jobs.verdicts import BATCH
from caflow_runtime.judge.verdict import Verdict
from caflow_runtime.path_text import as_text
from caflow_runtime.seal import is_sealed, sealed
from caflow_runtime.strict_json import WrongJson, parse_json
from caflow_runtime.whole_files import remove_leftovers, whole_file

COMMAND = "caflow filter"
SCORES, PARQUET = "scores.jsonl", "scores.parquet"


class FilterSettings(msgspec.Struct, frozen=True):
    """Settings that the verdicts depend on."""

    pipeline: PipelineSettings
    alpha: float
    max_pixels: int
    """Largest number of pixels of a file. A larger file gets the verdict "error"."""
    pairs: str
    """Hash of the list of pairs (`hash_of`)."""


class FilterState(State):
    """Contents of `job.json`, with a record of the files that were made from the verdicts."""

    accepted: Accepted | None = None
    """Form in which accepted targets were last written; None if they were not written yet."""
    parquet: bool = False
    """Whether `scores.parquet` was written."""


class FilterJob:
    """List of pairs and the folder of their verdicts."""

    def __init__(self, folder: Path, pairs: Sequence[FilePair], settings: FilterSettings, force: bool = False) -> None:
        """Begin a job, or resume the job in the folder.

        Arguments:
            force: begin a new job, even if the folder contains one. Its results are removed.

        Raises:
            InputError: if the folder contains another job or other files, or if a file of the pairs would be
                overwritten.
            OSError: if the folder cannot be written to.
        """
        self.folder, self.pairs = folder, pairs
        check_apart(folder, (name for pair in pairs for name in pair))
        self.state = begin(folder, settings) if force else resume(folder, settings) or begin(folder, settings)
        remove_leftovers(folder / name for name in (JOB_FILE, SCORES, LIST, LIST0, PARQUET))
        self._kept = keep_whole(folder / SCORES, pairs)
        self._failed = self._failed_parts()
        self.done = self._kept - sum(map(len, self._failed.values()))
        """Number of verdicts that are written and are not made again."""

    @property
    def left(self) -> list[Sequence[FilePair]]:
        """Parts of the list that are judged by this run, each of which begins at a multiple of `BATCH` in the list.

        The first part are the pairs without a verdict. The others contain pairs that failed in an earlier run.
        """
        return [part for part in (self.pairs[self._kept :], *self._failed.values()) if part]

    def _failed_parts(self) -> dict[int, Sequence[FilePair]]:
        """Return the parts of `BATCH` pairs with a verdict "error", by their number."""
        if not self._kept:
            return {}
        numbers = {k // BATCH: None for k, verdict in enumerate(self.verdicts()) if verdict.verdict == "error"}
        return {number: self.pairs[number * BATCH : (number + 1) * BATCH] for number in numbers}

    def run(self, verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
        """Seal and write verdicts, and yield each once it is written.

        Arguments:
            verdicts: verdicts of the pairs that are `left`, in order.

        Raises:
            OSError: if a verdict cannot be written. Earlier verdicts are kept. Verdicts of pairs that failed are
                replaced only when all of them are there.
        """
        if self.done < len(self.pairs):
            self.state.accepted, self.state.parquet = None, False
            self.state.write(self.folder)
            remove_made(self.folder)  # these files were made from other verdicts
        path, judged = self.folder / SCORES, map(sealed, verdicts)
        with path.open("ab") as file:
            for verdict in islice(judged, len(self.pairs) - self._kept):
                yield self._write(verdict, file)
        if not self._failed:
            return
        with whole_file(path) as partial, path.open("rb") as before, partial.open("wb") as file:
            for k, line in enumerate(before):
                if k // BATCH in self._failed:
                    yield self._write(next(judged), file)
                else:
                    file.write(line)

    def _write(self, verdict: Verdict, file: BinaryIO) -> Verdict:
        file.write(msgspec.json.encode(verdict) + b"\n")
        file.flush()
        self.done += 1
        return verdict

    def verdicts(self) -> Iterator[Verdict]:
        """Yield all verdicts that are written, in the order of the list."""
        with (self.folder / SCORES).open("rb") as file:
            for line in file:
                yield parse_json(line, Verdict)

    def finish(self, how: Accepted, parquet: bool) -> bool:
        """Write the accepted targets and, if requested, `scores.parquet`. All verdicts must be written before.

        Arguments:
            how: form in which accepted targets are written.
            parquet: whether to write `scores.parquet`.

        Returns:
            Whether a file was written. False if all of them existed already.

        Raises:
            InputError: if PyArrow is missing, the targets have no common folder, or a name contains a line break.
            OSError: if a file cannot be read or written.
        """
        place = self.folder / PLACES[how]
        lacks_accepted = self.state.accepted != how or not place.exists()
        lacks_parquet = parquet and not (self.state.parquet and (self.folder / PARQUET).exists())
        if lacks_accepted:
            accepted = (
                pair.target
                for pair, verdict in zip(self.pairs, self.verdicts(), strict=True)
                if verdict.verdict == "accepted"
            )
            if how in ("list", "list0"):
                write_list(place, accepted, b"\n" if how == "list" else b"\0")
            else:
                place_files(self.folder / FILES, accepted, common_folder(self.pairs), how)
            self.state.accepted = how
        if lacks_parquet:
            write_parquet(self.folder / PARQUET, self.verdicts())
            self.state.parquet = True
        if lacks_accepted or lacks_parquet:
            self.state.write(self.folder)
        return lacks_accepted or lacks_parquet


def hash_of(pairs: Iterable[FilePair]) -> str:
    """Return the SHA-256 of a list of pairs, in hexadecimal digits."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(b"".join(os.fsencode(name) + b"\0" for name in pair))
    return digest.hexdigest()


def check_apart(folder: Path, inputs: Iterable[str]) -> None:
    """Check that the job would not overwrite or remove any of its inputs.

    Raises:
        InputError: if the check fails.
    """
    own = folder.resolve()
    results, files = {own / name for name in (JOB_FILE, SCORES, LIST, LIST0, PARQUET)}, own / FILES
    for name in inputs:
        place = place_of(name)
        if place in results or place.is_relative_to(files):
            raise InputError(f"{name} is an input and would be overwritten; choose another -o")


def resume(folder: Path, settings: FilterSettings) -> FilterState | None:
    """Return the job in a folder; None if the folder is empty or missing.

    Raises:
        InputError: if the folder contains another job or other files.
    """
    try:
        found = read_state(folder, FilterState, COMMAND)
    except FileNotFoundError:
        if folder.is_dir() and not all(map(is_passing, folder.iterdir())):
            raise InputError(
                f"{folder} contains other files, but no job of {COMMAND}; choose another -o, or use --force to write "
                "to it anyway"
            ) from None
        return None
    check_same(folder, found, settings, {})
    return found


def begin(folder: Path, settings: FilterSettings) -> FilterState:
    """Begin a new job in a folder, and remove the results of an earlier job.

    Raises:
        InputError: if the folder contains no job, but its subfolder for accepted files is in use.
        OSError: if the folder cannot be written to.
    """
    files = folder / FILES
    if files.is_dir() and any(files.iterdir()) and not _is_job(folder):
        raise InputError(f"{files} is required for accepted files, but contains other files; move them away")
    remove_made(folder)
    for name in (JOB_FILE, SCORES):
        (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    state = FilterState(flat(settings), COMMAND)
    state.write(folder)
    return state


def remove_made(folder: Path) -> None:
    """Remove the files that were made from a job's verdicts."""
    for name in (LIST, LIST0, PARQUET):
        (folder / name).unlink(missing_ok=True)
    if (folder / FILES).is_dir():
        shutil.rmtree(folder / FILES)


def keep_whole(path: Path, pairs: Sequence[FilePair]) -> int:
    """Truncate `scores.jsonl` to the verdicts that are still valid, and return their number.

    A verdict is not valid if its line is damaged or edited, or if a file of its pair has changed. Valid verdicts are
    kept up to the last multiple of `BATCH` before the first line that is not valid.
    """
    if not path.exists():
        return 0
    kept = end = position = 0
    with path.open("rb+") as file:
        for number, (line, pair) in enumerate(zip(file, pairs, strict=False), 1):
            if not _is_verdict_of(pair, line):
                break
            position += len(line)
            if number % BATCH == 0 or number == len(pairs):
                kept, end = number, position
        if path.stat().st_size > end:
            file.truncate(end)
    return kept


def _is_job(folder: Path) -> bool:
    try:
        read_state(folder, FilterState, COMMAND)
    except (InputError, FileNotFoundError):
        return False
    return True


def _is_verdict_of(pair: FilePair, line: bytes) -> bool:
    try:
        verdict = parse_json(line, Verdict)
    except WrongJson:
        return False
    is_of_pair = line.endswith(b"\n") and [verdict.target, verdict.condition] == [as_text(name) for name in pair]
    stamps = (verdict.target_stamp, verdict.condition_stamp)
    return is_of_pair and is_sealed(verdict) and not any(map(has_changed, pair, stamps))
