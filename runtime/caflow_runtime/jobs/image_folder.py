"""The folder of a batch of images: the results, a line of `results.jsonl` for each, and `job.json`.

Many machines may draw at the same time, and each image perhaps more than once; the lines are written by one process.
What has its line is done; what has not is drawn again, whatever files are there.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from caflow_runtime.jobs.folder import State, check_same, has_changed, read_state, settings_of_pipeline
from caflow_runtime.jobs.images import Done, Job
from caflow_runtime.path_text import as_path, as_text
from caflow_runtime.pipeline.pipeline import Pipeline
from caflow_runtime.rows.draw import Draw
from caflow_runtime.seal import are_sealed, sealed_fields
from caflow_runtime.strict_json import WrongJson, parse_json
from caflow_runtime.whole_files import remove_leftovers, write_whole

COMMAND = "caflow batch"
RESULTS = "results.jsonl"
DROPPED = "dropped"
"""The outcome of an image without a result, as all samples are untypical. Its line has no likelihoods."""


class ImageBatch:
    """Images and the folder that their results go to."""

    def __init__(self, folder: Path, jobs: Sequence[Job], settings: dict[str, Any], force: bool = False) -> None:
        """Begin, or go on with what is in the folder.

        Arguments:
            settings: all that results depend on (`settings_of`).
            force: begin anew whatever is there.

        Raises:
            InputError: if the folder holds another job, or something else.
            OSError: if it cannot be written to.
        """
        self.folder, self.jobs = folder, jobs
        found = None if force else read_state(folder, State, COMMAND)
        if found is not None:
            check_same(folder, found.settings, settings)
        else:
            (folder / RESULTS).unlink(missing_ok=True)
            folder.mkdir(parents=True, exist_ok=True)
            State(settings).write(folder)
        results = keep_done(folder / RESULTS, jobs)
        done = {result["output"] for result in results}
        self.left = [job for job in jobs if as_text(job.output) not in done]
        """Images that have no result yet."""
        own = {as_text(job.output) for job in jobs}
        self.outcomes = Counter(result["outcome"] for result in results if result["output"] in own)
        """Of those that have one."""

    def run(self, drawn: Iterable[Done]) -> Iterator[Done]:
        """Take what comes of the images that are `left`, in any order, and yield each when its line is written.

        The report of an image that is yielded is its line, with its seal.

        Raises:
            OSError: if a line cannot be written; those before are.
        """
        with (self.folder / RESULTS).open("a") as file:
            for done in drawn:
                result = done.report
                if done.is_dropped:
                    names = {"input": as_text(done.job.source), "output": as_text(done.job.output)}
                    result = {**names, "outcome": DROPPED, "input_stamp": done.stamp}
                if result is not None:
                    result = sealed_fields(result)
                    file.write(json.dumps(result, allow_nan=False) + "\n")
                    file.flush()
                yield done if done.is_dropped else replace(done, report=result)


def settings_of(pipe: Pipeline, inputs: Iterable[str], draw: Draw, **others: Any) -> dict[str, Any]:
    """What results depend on.

    Arguments:
        inputs: where the images are from. Images that are added there later belong to the job.
        others: what else the pipeline was opened with.
    """
    drawing = asdict(draw)
    rejecting = drawing.pop("reject") or {"alpha": None}
    digest = hashlib.sha256(b"".join(os.fsencode(text) + b"\0" for text in inputs))
    return {**settings_of_pipeline(pipe), **drawing, **rejecting, **others, "inputs": digest.hexdigest()}


def keep_done(path: Path, jobs: Iterable[Job]) -> list[dict[str, Any]]:
    """The results that are kept: whole lines, with their files, and of the image that the file is to be of now, as long
    as that has not changed since.
    """
    if not path.exists():
        return []
    sources = {as_text(job.output): as_text(job.source) for job in jobs}
    lines = path.read_bytes().splitlines(keepends=True)
    kept = {}
    for line in lines:
        result = _result(line)
        if result is None or sources.get(result["output"], result["input"]) != result["input"]:
            continue
        is_whole = result["outcome"] == DROPPED or _is_there(Path(as_path(result["output"])))
        if is_whole and not has_changed(as_path(result["input"]), result.get("input_stamp")):
            kept[result["output"]] = line, result
    if len(kept) < len(lines):
        write_whole(path, b"".join(line for line, _ in kept.values()))
    return [result for _, result in kept.values()]


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long for any file
        return False


def remove_partial(jobs: Iterable[Job]) -> None:
    """What processes that were killed have left of these images."""
    remove_leftovers(path for job in jobs for path in job.outputs)


def _result(line: bytes) -> dict[str, Any] | None:
    """None of a line that is torn, damaged or edited."""
    try:
        found = parse_json(line, dict[str, Any])
    except WrongJson:
        return None
    texts = (found.get(name) for name in ("input", "output", "outcome"))
    is_whole = line.endswith(b"\n") and all(isinstance(text, str) for text in texts)
    return found if is_whole and are_sealed(found) else None
