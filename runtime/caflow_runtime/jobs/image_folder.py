"""The folder of many images: the results, a line of `results.jsonl` for each, and `job.json`.

Many processes may draw at the same time, and each image perhaps more than once; the lines are written by one process.
An image that has its line, and all its files, is done. Others are drawn, whatever files are there.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from caflow_runtime.errors import InputError
from caflow_runtime.jobs.folder import NAME, PipelineSettings, State, check_same, flat, has_changed, read_state
from caflow_runtime.jobs.image_job import ImageJob
from caflow_runtime.jobs.images import Done
from caflow_runtime.jobs.passes import Bits
from caflow_runtime.jobs.result_files import DEFAULT, ResultFiles
from caflow_runtime.path_text import as_path, as_text
from caflow_runtime.rows.draw import Draw
from caflow_runtime.seal import are_sealed, sealed_fields
from caflow_runtime.sizes import Size
from caflow_runtime.strict_json import WrongJson, parse_json
from caflow_runtime.whole_files import remove_leftovers, write_whole

COMMAND = "caflow image"
RESULTS = "results.jsonl"
DROPPED = "dropped"
"""The outcome of an image without a result, as all samples are untypical. Its line has no likelihoods."""


class ImageSettings(msgspec.Struct, frozen=True):
    """All that the results depend on. Of which images they are is not among it: others may be added at any time."""

    pipeline: PipelineSettings
    draw: Draw
    keep_all: bool = False
    sheet: bool = False
    maps: bool = False
    files: ResultFiles = DEFAULT
    size: Size | None = None
    bits: Bits | None = None


class ImageFolder:
    """Images and the folder that their results go to. The caller holds the folder (`alone`)."""

    def __init__(self, folder: Path, jobs: Sequence[ImageJob], settings: ImageSettings, force: bool = False) -> None:
        """Begin, or resume what is in the folder.

        Arguments:
            force: begin anew whatever is there.

        Raises:
            InputError: if the folder holds another job, or files that no job has written and this one would replace.
            OSError: if it cannot be written to.
        """
        self.folder, self.jobs = folder, jobs
        if force or not (folder / NAME).is_file():
            if not force:
                check_free([folder / RESULTS, *(path for job in jobs for path in job.outputs)])
            (folder / RESULTS).unlink(missing_ok=True)
            folder.mkdir(parents=True, exist_ok=True)
            State(flat(settings), COMMAND).write(folder)
        else:
            state = read_state(folder, State, COMMAND)
            if "format" not in state.settings:
                raise InputError(
                    f"{folder} holds a job of an earlier version, whose results are all PNG and without metadata: give "
                    "another -o, or --force to begin anew"
                )
            check_same(folder, state, settings)
        remove_leftovers([folder / NAME, folder / RESULTS])
        results = keep_done(folder / RESULTS, jobs)
        done = {result["output"] for result in results}
        self.left = [job for job in jobs if name_of(job.output) not in done]
        """Images that have no result yet."""
        own = {name_of(job.output) for job in jobs}
        self.outcomes = Counter(result["outcome"] for result in results if result["output"] in own)
        """Of those that have one."""

    def run(self, drawn: Iterable[Done]) -> Iterator[Done]:
        """Take what comes of the images that are `left`, in any order, and yield each when its line is written.

        Raises:
            OSError: if a line cannot be written; those before are.
        """
        with (self.folder / RESULTS).open("a") as file:
            for done in drawn:
                if (line := _line(done)) is not None:
                    file.write(json.dumps(sealed_fields(line), allow_nan=False) + "\n")
                    file.flush()
                yield done


@contextmanager
def without_leftovers(jobs: Iterable[ImageJob]) -> Iterator[None]:
    """Remove what processes that were killed have left of these images, before the block and after it."""
    paths = [path for job in jobs for path in job.outputs]
    remove_leftovers(paths)
    try:
        yield
    finally:
        remove_leftovers(paths)


def check_free(paths: Iterable[Path]) -> None:
    """Whether nothing would be overwritten.

    Raises:
        InputError
    """
    for path in paths:
        if _is_there(path):
            raise InputError(f"{path} is there already: give --force to overwrite it, or another -o")


def name_of(path: Path) -> str:
    """Return a path as `results.jsonl` has it: absolute."""
    return as_text(path.absolute())


def recorded_outputs(folder: Path) -> dict[Path, Path]:
    """Return the results that a folder's lines name, below the folder, by the absolute paths of their inputs."""
    path, found = folder / RESULTS, {}
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        if (result := _result(line)) is not None:
            source, best = (Path(as_path(result[name])) for name in ("input", "output"))
            if best.is_relative_to(folder.absolute()):
                found[source] = folder / best.relative_to(folder.absolute())
    return found


def keep_done(path: Path, jobs: Iterable[ImageJob]) -> list[dict[str, Any]]:
    """The results that are kept: whole lines, with their files, and of the image that the file is to be of now, as long
    as that has not changed since.
    """
    if not path.exists():
        return []
    wanted = {name_of(job.output): job for job in jobs}
    lines = path.read_bytes().splitlines(keepends=True)
    kept = {}
    for line in lines:
        result = _result(line)
        if result is not None and _is_whole(result, wanted.get(result["output"])):
            kept[result["output"]] = line, result
    if len(kept) < len(lines):
        write_whole(path, b"".join(line for line, _ in kept.values()))
    return [result for _, result in kept.values()]


def _is_whole(result: Mapping[str, Any], job: ImageJob | None) -> bool:
    """Whether the files of a line are there, and made of what its input is now. `job`: None if it is not wanted now."""
    if has_changed(as_path(result["input"]), result.get("input_stamp")):
        return False
    if job is not None and _inputs(job) != {name: result[name] for name in ("input", "mask") if name in result}:
        return False
    if "mask" in result and has_changed(as_path(result["mask"]), result.get("mask_stamp")):
        return False
    if result["outcome"] == DROPPED:
        return True
    files = [Path(as_path(result["output"]))] if job is None else job.written(result["outcome"])
    return all(map(_is_there, files))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long for any file
        return False


def _line(done: Done) -> dict[str, Any] | None:
    """What is written of an image, without its seal; None of one that failed, which the next run tries again."""
    names = _inputs(done.job) | {"output": name_of(done.job.output)}
    if done.job.mask is not None:
        names["mask_stamp"] = done.mask_stamp
    if done.is_dropped:
        return {**names, "outcome": DROPPED, "input_stamp": done.stamp}
    return None if done.report is None else done.report.fields() | names


def _inputs(job: ImageJob) -> dict[str, str | None]:
    """Absolute paths of what a result is made of."""
    masks = {} if job.mask is None else {"mask": name_of(job.mask)}
    return {"input": name_of(job.source), **masks}


def _result(line: bytes) -> dict[str, Any] | None:
    """None of a line that is torn, damaged or edited."""
    try:
        found = parse_json(line, dict[str, Any])
    except WrongJson:
        return None
    texts = (found.get(name) for name in ("input", "output", "outcome", *({"mask"} & found.keys())))
    is_whole = line.endswith(b"\n") and all(isinstance(text, str) for text in texts)
    return found if is_whole and are_sealed(found) else None
