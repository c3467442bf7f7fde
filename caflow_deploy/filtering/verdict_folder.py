"""Folder of a filter job: the settings, one line with a verdict for each pair, and files made from the verdicts.

The unit of the job is a batch: up to `BATCH` pairs, which are judged together so that their numbers are always
bit-identical. Its lines in the journal `scores.jsonl` follow each other. The accepted targets are written once all
verdicts are there and in the order of the list.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import msgspec

from caflow_deploy.filtering.accepted_targets import (
    FILES,
    LIST,
    PLACES,
    Accepted,
    common_folder,
    copy_files,
    place_of,
    write_list,
)
from caflow_deploy.filtering.verdicts import BATCH
from caflow_deploy.images.file_search import JOB_FILE
from caflow_deploy.images.pairs import FilePair
from caflow_deploy.jobs.folder import (
    PipelineSettings,
    State,
    find_job,
    flat,
    has_changed,
    is_passing,
    read_state,
)
from caflow_deploy.jobs.journal import Journal
from caflow_runtime.errors import InputError
from caflow_runtime.file_io.atomic_files import remove, remove_leftovers
from caflow_runtime.file_io.paths import as_path, as_text, real_path
from caflow_runtime.ood.verdict import Verdict

COMMAND = "caflow filter"
SCORES = "scores.jsonl"


class FilterSettings(msgspec.Struct, frozen=True):
    """Settings that the verdicts depend on."""

    pipeline: PipelineSettings
    min_typicality: float
    max_pixels: int
    """Largest number of pixels of a file. A larger file gets the verdict "error"."""
    pairs: str
    """Hash of the list of pairs (`hash_of`)."""


class FilterState(State):
    """Contents of `job.json`, with a record of the files that were made from the verdicts."""

    accepted: Accepted | None = None
    """Form in which accepted targets were last written; None if they were not written yet."""


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
        remove_leftovers(folder / name for name in (JOB_FILE, SCORES, LIST))
        self._journal = Journal(folder / SCORES, Verdict)
        self._batches = [pairs[k : k + BATCH] for k in range(0, len(pairs), BATCH)]
        self._finished = self._resume()
        """Numbers of the batches in the journal, in the order of their lines."""
        self.done = sum(len(self._batches[number]) for number in self._finished)
        """Number of verdicts that are written and are not made again."""

    @property
    def left(self) -> list[Sequence[FilePair]]:
        """Batches that are judged by this run: those without lines, and those of which a pair failed."""
        return [self._batches[number] for number in self._numbers_left()]

    def run(self, judged: Iterable[Sequence[Verdict]]) -> Iterator[Verdict]:
        """Write the verdicts of batches, and yield each verdict, with its checksum, once its batch is written.

        Arguments:
            judged: verdicts of the batches that are `left`, in order.

        Raises:
            OSError: if a verdict cannot be written. Earlier batches are kept.
        """
        left = self._numbers_left()
        if left:
            self.state.accepted = None
            self.state.write(self.folder)
            remove_made(self.folder)  # these files were made from other verdicts
        for number, verdicts in zip(left, judged, strict=True):
            finished = self._journal.append(*verdicts)
            self._finished.append(number)
            self.done += len(finished)
            yield from finished
        self._put_in_order()

    def _numbers_left(self) -> list[int]:
        return sorted(set(range(len(self._batches))) - set(self._finished))

    def _resume(self) -> list[int]:
        """Remove all lines but those of batches that count. Return the numbers of these batches, in the file's order.

        A batch counts if all its lines count (`Journal`), and none of its pairs failed.
        """
        found = list(_batches_in(self._journal, self._batches))
        if sum(len(self._batches[number]) for number, _ in found) < sum(1 for _ in self._journal.lines()):
            self._rewrite(found)
        return [number for number, _ in found]

    def _put_in_order(self) -> None:
        if self._finished != sorted(self._finished):
            self._rewrite(sorted(self._places()))
            self._finished.sort()

    def _places(self) -> Iterator[tuple[int, int]]:
        """Yield the number of each batch in the journal, and the place of its first line."""
        with self._journal.path.open("rb") as file:
            for number in self._finished:
                yield number, file.tell()
                for _ in self._batches[number]:
                    file.readline()

    def _rewrite(self, places: Iterable[tuple[int, int]]) -> None:
        """Replace the journal by the lines of some of its batches, given as by `_places`."""
        with self._journal.path.open("rb") as file:
            self._journal.rewrite(line for number, place in places for line in self._lines_at(file, number, place))

    def _lines_at(self, file: BinaryIO, number: int, place: int) -> Iterator[bytes]:
        file.seek(place)
        return (file.readline() for _ in self._batches[number])

    def verdicts(self) -> Iterator[Verdict]:
        """Yield all verdicts that are written, in the order of the list."""
        return (verdict for _, verdict in self._journal.lines() if verdict is not None)

    def _accepted(self) -> Iterator[str]:
        """Yield the accepted targets."""
        for pair, verdict in zip(self.pairs, self.verdicts(), strict=True):
            if verdict.verdict == "accepted":
                yield pair.target

    def finish(self, how: Accepted) -> bool:
        """Write the accepted targets. All verdicts must be written before.

        Returns:
            Whether they were written. False if they existed already, and were not emptied.

        Raises:
            InputError: if the targets have no common folder, or a name contains a line break.
            OSError: if a file cannot be read or written.
        """
        place = self.folder / PLACES[how]
        is_there = place.is_dir() if place.name == FILES else place.is_file()
        if self.state.accepted == how and is_there and not (_is_empty(place) and any(self._accepted())):
            return False
        if how == "list":
            write_list(place, self._accepted())
        else:
            copy_files(place, self._accepted(), common_folder(self.pairs))
        self.state.accepted = how
        self.state.write(self.folder)
        return True


def _is_empty(place: Path) -> bool:
    """Return whether an existing file or folder has no contents."""
    return not (any(place.iterdir()) if place.is_dir() else place.stat().st_size)


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
    own = real_path(folder)
    results, files = {own / name for name in (JOB_FILE, SCORES, LIST)}, own / FILES
    for name in inputs:
        place = place_of(name)
        if place in results or place.is_relative_to(files):
            raise InputError(f"{name} is an input and would be overwritten; choose another `output`")


def resume(folder: Path, settings: FilterSettings) -> FilterState | None:
    """Return the job in a folder; None if the folder is empty or missing.

    Raises:
        InputError: if the folder contains another job or other files.
    """
    found = find_job(folder, FilterState, COMMAND, settings, {})
    if found is None and folder.is_dir() and not all(map(is_passing, folder.iterdir())):
        raise InputError(
            f"{folder} contains other files, but no job of {COMMAND}; choose another `output`, or use `force` to "
            "write to it anyway"
        )
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
    (folder / LIST).unlink(missing_ok=True)
    if (folder / FILES).is_dir():
        remove(folder / FILES)


def _is_job(folder: Path) -> bool:
    try:
        read_state(folder, FilterState, COMMAND)
    except (InputError, FileNotFoundError):
        return False
    return True


def _batches_in(journal: Journal[Verdict], batches: Sequence[Sequence[FilePair]]) -> Iterator[tuple[int, int]]:
    """Yield the number of each batch that counts, and the place of its first line in the file.

    A list may contain a pair several times, so a line alone does not tell its batch. The lines of a batch follow each
    other. Blocks of `BATCH` lines are therefore compared with the batches; the last batch may be shorter. Where none
    begins, the next block begins one line later, as lines may be missing, or others may be between them; or a whole
    block later if the list contains a pair twice, as the lines would then fit several places.
    """
    missing: dict[tuple[str, str], list[int]] = {}
    for number, batch in enumerate(batches):
        missing.setdefault(_names(batch[0]), []).append(number)
    lines = ((len(text), _names_if_valid(verdict)) for text, verdict in journal.lines())
    block: list[tuple[int, tuple[str, str] | None]] = []
    place = step = 0
    while block := [*block, *islice(lines, BATCH - len(block))]:
        names = [names for _, names in block]
        alike = [] if names[0] is None else missing.get(names[0], [])
        found = next((k for k in alike if names[: len(batches[k])] == list(map(_names, batches[k]))), None)
        # Lines of the short last batch might also be the beginning of another one that is damaged.
        if found is not None and (len(batches[found]) == BATCH or len(alike) == 1):
            alike.remove(found)
            yield found, place
            used = len(batches[found])
        else:
            step = step or (1 if _are_distinct(batches) else BATCH)
            used = min(step, len(block))
        place += sum(length for length, _ in block[:used])
        block = block[used:]


def _are_distinct(batches: Iterable[Sequence[FilePair]]) -> bool:
    hashes = [hash(pair) for batch in batches for pair in batch]
    return len(set(hashes)) == len(hashes)


def _names(pair: FilePair) -> tuple[str, str]:
    return as_text(pair.target), as_text(pair.condition)


def _names_if_valid(verdict: Verdict | None) -> tuple[str, str] | None:
    """Return the pair of an undamaged line; None if the pair failed, or if one of its files has changed."""
    if verdict is None or verdict.verdict == "error":
        return None
    files = {verdict.target: verdict.target_stamp, verdict.condition: verdict.condition_stamp}
    is_changed = any(has_changed(as_path(name), stamp) for name, stamp in files.items())
    return None if is_changed else (verdict.target, verdict.condition)
