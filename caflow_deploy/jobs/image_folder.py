"""Folder of an image job: the results, the journal `results.jsonl` with a line for each result, and `job.json`.

Several processes may process images at the same time, and an image may be processed more than once. A single process
writes the lines. An image is done if its line counts and all its files exist and are not empty. All others are
processed, even if files exist.
"""

import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from caflow_deploy.images.file_search import JOB_FILE
from caflow_deploy.images.masks import MaskMarks
from caflow_deploy.images.model_passes import Bits
from caflow_deploy.jobs.folder import PipelineSettings, State, find_job, flat, has_changed
from caflow_deploy.jobs.image_job import ImageJob
from caflow_deploy.jobs.image_report import ImageReport
from caflow_deploy.jobs.journal import Journal
from caflow_deploy.jobs.process_image import ImageOutcome
from caflow_deploy.jobs.result_naming import DEFAULT, ResultFiles
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.errors import InputError
from caflow_runtime.file_io.atomic_files import remove_leftovers
from caflow_runtime.file_io.paths import as_path, as_text
from caflow_runtime.file_io.strict_json import WrongJson, convert
from caflow_runtime.sizes import Size

COMMAND = "caflow image"
RESULTS = "results.jsonl"
OPTIONS = {
    **{"frame": "", "keep": "", "multiple": "", "further_models": ""},
    **{name: f"`assume` {name}" for name in ("blur", "noise", "jpeg", "video")},
}
"""Options of the settings that have another name (`check_same`)."""
DROPPED = "dropped"
"""Outcome of an image without a result, because all its samples are untypical. Its line has no likelihoods."""


class ModelSettings(msgspec.Struct, frozen=True):
    """Settings of a further model, and those of drawing with it."""

    pipeline: PipelineSettings
    config: DrawOptions


BESIDE = {"mask", "hints"}
"""Names of the files beside an image in lines of `results.jsonl`."""


class ImageSettings(msgspec.Struct, frozen=True):
    """Settings that the results depend on. The list of images is not included: images may be added at any time."""

    pipeline: PipelineSettings
    config: DrawOptions
    files: ResultFiles = DEFAULT
    size: Size | None = None
    bits: Bits | None = None
    further_models: tuple[ModelSettings, ...] | None = None
    """The other models if one is chosen for each image; None if all images have the same model."""
    assume: Mapping[str, float] | None = None
    """What the user says of how all images were degraded; None for nothing."""
    mask_marks: MaskMarks | None = None
    """What marks the pixels to fill in pictures of masks; None finds out."""


class ImageFolder:
    """Images and the folder of their results. The caller must have locked the folder with `exclusive_lock`."""

    def __init__(self, folder: Path, jobs: Sequence[ImageJob], settings: ImageSettings, force: bool = False) -> None:
        """Begin a job, or resume the job in the folder.

        Arguments:
            force: begin a new job, even if the folder contains one, and overwrite existing files.

        Raises:
            InputError: if the folder contains another job, or if it contains no job and a file would be overwritten.
            OSError: if the folder cannot be written to.
        """
        self.folder, self.jobs = folder, jobs
        if force or not holds_same_job(folder, jobs, settings):
            (folder / RESULTS).unlink(missing_ok=True)
            folder.mkdir(parents=True, exist_ok=True)
            State(flat(settings), COMMAND).write(folder)
        remove_leftovers([folder / JOB_FILE, folder / RESULTS])
        self._journal = _journal(folder)
        lines = self._journal.resume(_unit_of(jobs))
        self.left = [job for job in jobs if name_of(job.output) not in lines]
        """Jobs of the images that have no result yet."""
        own = {name_of(job.output) for job in jobs}
        self.outcomes = Counter(line["outcome"] for output, line in lines.items() if output in own)
        """Number of images with each outcome, among the images that have a result."""
        self.changed = [job.output for job in jobs if _has_other_size(job.output, lines.get(name_of(job.output), {}))]
        """Results that another program has changed or replaced. They are kept."""

    def run(self, outcomes: Iterable[ImageOutcome]) -> Iterator[ImageOutcome]:
        """Write the line of each outcome, and yield the outcome once its line is written.

        Failed images get no line, so the next run tries them again.

        Arguments:
            outcomes: outcomes of the jobs that are `left`, in any order.

        Raises:
            OSError: if a line cannot be written. Earlier lines are kept.
        """
        for done in outcomes:
            if (line := _line(done)) is not None:
                self._journal.append(line)
            yield done

    def close(self) -> None:
        """Forget the job if it has written nothing, so that the next command may have other settings."""
        lines = self.folder / RESULTS
        if (lines.is_file() and lines.stat().st_size) or any(
            _is_there(path) for job in self.jobs for path in job.outputs
        ):
            return
        for path in (self.folder / JOB_FILE, lines):
            path.unlink(missing_ok=True)


def holds_same_job(folder: Path, jobs: Sequence[ImageJob], settings: ImageSettings) -> bool:
    """Return whether a folder contains a job that can be resumed with these settings. Nothing is changed.

    Raises:
        InputError: if the folder contains another job, or if it contains no job and a file would be overwritten.
    """
    if find_job(folder, State, COMMAND, settings, OPTIONS) is not None:
        return True
    check_free([folder / RESULTS, *(path for job in jobs for path in job.outputs)])
    return False


@contextmanager
def without_leftovers(jobs: Iterable[ImageJob]) -> Iterator[None]:
    """Remove temporary files that killed processes left for these images, before the block and after it."""
    paths = [path for job in jobs for path in job.outputs]
    remove_leftovers(paths)
    try:
        yield
    finally:
        remove_leftovers(paths)


def check_free(paths: Iterable[Path]) -> None:
    """Check that none of these files exists.

    Raises:
        InputError: if a file would be overwritten.
    """
    for path in paths:
        if _is_there(path):
            raise InputError(f"{path} already exists; use `force` to overwrite it, or choose another `output`")


def name_of(path: Path) -> str:
    """Return a path as it is written in `results.jsonl`: absolute, as text."""
    return as_text(path.absolute())


def recorded_outputs(folder: Path) -> dict[Path, Path]:
    """Return the outputs inside a folder that its valid lines name. Keys are the absolute paths of the inputs."""
    found = {}
    for _, line in _journal(folder).lines():
        if line is not None and _is_valid(line):
            source, best = (Path(as_path(line[name])) for name in ("input", "output"))
            if best.is_relative_to(folder.absolute()):
                found[source] = folder / best.relative_to(folder.absolute())
    return found


def finished(folder: Path, jobs: Iterable[ImageJob]) -> Set[str]:
    """Return the outputs (`name_of`) that the job in a folder need not process again. Nothing is changed."""
    return _journal(folder).find(_unit_of(jobs)).keys()


def _journal(folder: Path) -> Journal[dict[str, Any]]:
    return Journal(folder / RESULTS, dict)


def _unit_of(jobs: Iterable[ImageJob]) -> Callable[[Mapping[str, Any]], str | None]:
    """Return a function that returns the output that a line is about, or None if the line does not count.

    A line counts if its files exist and are not empty, its input has not changed, and its output still belongs to the
    same input.
    """
    wanted = {name_of(job.output): job for job in jobs}

    def unit_of(line: Mapping[str, Any]) -> str | None:
        return line["output"] if _is_valid(line) and _is_current(line, wanted.get(line["output"])) else None

    return unit_of


def _is_valid(line: Mapping[str, Any]) -> bool:
    """Return whether an undamaged line has the fields of `caflow image`, with values in their ranges."""
    if not all(isinstance(line.get(name), str) for name in ("input", "output", "outcome", *(BESIDE & line.keys()))):
        return False
    try:
        return line["outcome"] == DROPPED or bool(convert(line, ImageReport))
    except WrongJson:
        return False


def _is_current(line: Mapping[str, Any], job: ImageJob | None) -> bool:
    """Return whether the files of a line exist, are not empty, and were made from the current input.

    Arguments:
        job: the job with the line's output; None if no current job has this output.
    """
    if has_changed(as_path(line["input"]), line.get("input_stamp")):
        return False
    if job is not None and _inputs(job) != {name: line[name] for name in {"input"} | BESIDE if name in line}:
        return False
    if any(has_changed(as_path(line[name]), line.get(f"{name}_stamp")) for name in BESIDE & line.keys()):
        return False
    if line["outcome"] == DROPPED:
        return True
    files = [Path(as_path(line["output"]))] if job is None else job.written(line["outcome"])
    return all(map(_has_contents, files))


def _has_contents(path: Path) -> bool:
    return _size_of(path) > 0


def _has_other_size(result: Path, line: Mapping[str, Any]) -> bool:
    """Return whether a finished result has another size than its line says."""
    return "bytes" in line and 0 < _size_of(result) != line["bytes"]


def _size_of(path: Path) -> int:
    """Return the size of a file in bytes; 0 if there is no such file, or if no file can have this name."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # The name is too long for the file system.
        return False


def _line(done: ImageOutcome) -> dict[str, Any] | None:
    """Return the line of an image, without its checksum; None if the image failed."""
    names = _inputs(done.job) | {"output": name_of(done.job.output)}
    names |= {f"{name}_stamp": stamp for name, stamp in done.input_stamps.items()}
    if done.is_dropped:
        return {**names, "outcome": DROPPED, "input_stamp": done.stamp, "model": done.model}
    return None if done.report is None else done.report.fields() | names


def _inputs(job: ImageJob) -> dict[str, str | None]:
    """Return the absolute paths of the files that a result is made from."""
    return {"input": name_of(job.source), **{name: name_of(path) for name, path in job.inputs.items()}}
