"""The folder of a filter's job: what was asked for, one verdict a line, and what follows from these.

`job.json` holds the settings, so that the same job goes on after a stop, and no other one. All that is written beside
`scores.jsonl` is made from it, once it is whole.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from caflow_runtime.errors import InputError
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
    NAME,
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
from caflow_runtime.whole_files import remove_leftovers

COMMAND = "caflow filter"
SCORES, PARQUET = "scores.jsonl", "scores.parquet"


class FilterSettings(msgspec.Struct, frozen=True):
    """All that verdicts depend on."""

    pipeline: PipelineSettings
    alpha: float
    max_pixels: int
    """A larger file is an error."""
    pairs: str
    """`hash_of` the list."""


class FilterState(State):
    """`job.json`, with what was made of the verdicts."""

    accepted: Accepted | None = None
    """How accepted targets were given last."""
    parquet: bool = False
    """Whether `scores.parquet` was written."""


class FilterJob:
    """A list of pairs and the folder that its verdicts go to."""

    def __init__(self, folder: Path, pairs: Sequence[FilePair], settings: FilterSettings, force: bool = False) -> None:
        """Begin, or go on with what is in the folder.

        Arguments:
            force: begin anew whatever is there.

        Raises:
            InputError: if the folder holds another job, or something else, or the pairs' own files.
            OSError: if it cannot be written to.
        """
        self.folder, self.pairs = folder, pairs
        check_apart(folder, (name for pair in pairs for name in pair))
        self.state = begin(folder, settings) if force else resume(folder, settings) or begin(folder, settings)
        remove_leftovers(folder / name for name in (NAME, SCORES, LIST, LIST0, PARQUET))
        self.done = keep_whole(folder / SCORES, pairs)
        """Verdicts that are there."""

    @property
    def left(self) -> Sequence[FilePair]:
        """Pairs that have no verdict yet; they begin at a multiple of `BATCH`."""
        return self.pairs[self.done :]

    def run(self, verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
        """Take the verdicts of the pairs that are `left`, in order, and yield each, sealed, when it is written.

        Raises:
            OSError: if a verdict cannot be written; those before are.
        """
        if self.done < len(self.pairs):
            self.state.accepted, self.state.parquet = None, False
            self.state.write(self.folder)
            remove_made(self.folder)  # what was made of the verdicts is of others
        with (self.folder / SCORES).open("ab") as file:
            for verdict in map(sealed, verdicts):
                file.write(msgspec.json.encode(verdict) + b"\n")
                file.flush()
                self.done += 1
                yield verdict

    def verdicts(self) -> Iterator[Verdict]:
        """All that are there."""
        with (self.folder / SCORES).open("rb") as file:
            for line in file:
                yield parse_json(line, Verdict)

    def finish(self, how: Accepted, parquet: bool) -> bool:
        """Write what follows from the verdicts, once all are there; False if it is there already.

        Raises:
            InputError: if a package is missing, targets have no folder in common, or a name does not fit in a line.
            OSError
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
    """Return the hash of a list."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(b"".join(os.fsencode(name) + b"\0" for name in pair))
    return digest.hexdigest()


def check_apart(folder: Path, inputs: Iterable[str]) -> None:
    """Whether nothing that is read would be overwritten, or removed.

    Raises:
        InputError
    """
    own = folder.resolve()
    results, files = {own / name for name in (NAME, SCORES, LIST, LIST0, PARQUET)}, own / FILES
    for name in inputs:
        place = place_of(name)
        if place in results or place.is_relative_to(files):
            raise InputError(f"{name} is an input, and what is written would take its place: give another -o")


def resume(folder: Path, settings: FilterSettings) -> FilterState | None:
    """The job that is in a folder; None if there is none, and nothing else.

    Raises:
        InputError: if there is another job, or something else.
    """
    try:
        found = read_state(folder, FilterState, COMMAND)
    except FileNotFoundError:
        if folder.is_dir() and not all(map(is_passing, folder.iterdir())):
            raise InputError(
                f"{folder} holds no job of {COMMAND}, but something else: give another -o, or --force to begin anew "
                "there"
            ) from None
        return None
    check_same(folder, found, settings)
    return found


def begin(folder: Path, settings: FilterSettings) -> FilterState:
    """A new job in a folder, without the results of an earlier one."""
    files = folder / FILES
    if files.is_dir() and any(files.iterdir()) and not _is_job(folder):
        raise InputError(f"{files} is where accepted files would go, and something else is in it: move that")
    remove_made(folder)
    for name in (NAME, SCORES):
        (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    state = FilterState(flat(settings), COMMAND)
    state.write(folder)
    return state


def remove_made(folder: Path) -> None:
    """Remove what was made of a job's verdicts."""
    for name in (LIST, LIST0, PARQUET):
        (folder / name).unlink(missing_ok=True)
    if (folder / FILES).is_dir():
        shutil.rmtree(folder / FILES)


def keep_whole(path: Path, pairs: Sequence[FilePair]) -> int:
    """How many verdicts of `pairs` are kept: all, or up to the last multiple of `BATCH` before the first one that is
    damaged or was edited, or whose files have changed since. What follows is cut off.
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
