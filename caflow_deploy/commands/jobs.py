"""What commands about images read and write: found and checked before anything is computed."""

import mimetypes
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from caflow_deploy.commands.result_names import ResultNames
from caflow_runtime.errors import InputError
from caflow_runtime.image_formats import READ_ONLY, SUFFIXES, images_below
from caflow_runtime.jobs.folder import NAME, make_folder
from caflow_runtime.jobs.image_folder import recorded_outputs
from caflow_runtime.jobs.image_job import ImageJob
from caflow_runtime.jobs.masks import find_masks
from caflow_runtime.jobs.result_files import ResultFiles
from caflow_runtime.pictures.image_files import check_suffix

GLOB_CHARACTERS = "*?["


def plan_jobs(
    inputs: Iterable[str],
    output: Path,
    others: int,
    extras: Sequence[str],
    files: ResultFiles,
    force: bool = False,
) -> list[ImageJob]:
    """The jobs of files, folders and globs.

    Arguments:
        others: samples that are written beside the best.
        extras: further pictures of each; a file's name ends in that.
        force: whether names of results that are there do not count.

    Raises:
        InputError: if something is not there, or an input would be lost.
        OSError: if a folder cannot be read.
    """

    inputs = tuple(inputs)
    sources = _once(found for text in inputs for found in _sources(text, output))
    for_one = is_for_one(output)
    single = for_one and len(sources) == 1 and not any(Path(text).is_dir() for text in inputs)
    if for_one and not single:
        raise InputError(f"{output}: wanted a folder for what is in {inputs[0]}, this names a single image")

    names = ResultNames(output, files, others, extras)
    if single:
        jobs = [names.job(sources[0][0], output)]
    else:
        recorded = recorded_outputs(output) if (output / NAME).is_file() else None
        jobs = names.jobs(sources, recorded, force)
    _check_outputs(jobs)
    return jobs


def with_masks(jobs: Sequence[ImageJob], mask: Path) -> list[ImageJob]:
    """The same jobs with the mask of each: one for all, or those of a folder.

    Raises:
        InputError: if there is none for an image, or it would be overwritten.
        OSError: if the folder cannot be read.
    """
    masks = find_masks(mask, [job.source for job in jobs])
    if written := {path.resolve() for path in masks} & {path.resolve() for job in jobs for path in job.outputs}:
        raise InputError(f"{written.pop()} is a mask: give another -o")
    return [replace(job, mask=path) for job, path in zip(jobs, masks, strict=True)]


def make_folders(jobs: Iterable[ImageJob]) -> None:
    """Those that results are written to.

    Raises:
        InputError: if one cannot be written to.
        OSError: if one cannot be made.
    """
    for folder in sorted({job.output.parent for job in jobs}):
        make_folder(folder)


def _check_outputs(jobs: list[ImageJob]) -> None:
    sources = {job.source.resolve() for job in jobs}
    for job in jobs:
        check_suffix(job.output)
        for path in job.outputs:
            if path.resolve() in sources:
                raise InputError(f"{path} is an input: give another -o, or a --suffix")


def _once(sources: Iterable[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Without those that are there before by the same name in the same folder, however the folder was written.

    Links of other names stay: a result is wanted of each name.
    """
    found: dict[Path, tuple[Path, Path]] = {}
    for source, name in sources:
        found.setdefault(source.parent.resolve() / source.name, (source, name))
    return list(found.values())


def _sources(text: str, output: Path) -> Iterator[tuple[Path, Path]]:
    """Files with their names below the output folder."""
    path = Path(text)
    if text and path.is_dir():
        found = [(file, file.relative_to(path)) for file in _images_in(path, output)]
    elif path.is_file():
        found = [(path, Path(path.name))]
    else:
        found = [(file, Path(file.name)) for file in matches(text)]
    if not found:
        raise InputError(f"{text}: wanted an image, a folder with images or a glob that matches some, found none")
    yield from found


def _images_in(folder: Path, output: Path) -> list[Path]:
    """Image files in a folder and below, but for those of the output folder."""
    within = output.resolve()
    files = images_below(folder, SUFFIXES | READ_ONLY)
    return [file for file in files if within == folder.resolve() or within not in file.resolve().parents]


def matches(pattern: str) -> list[Path]:
    """Files that a glob matches, sorted; none of a text that is no glob.

    Raises:
        InputError
    """
    if not any(character in pattern for character in GLOB_CHARACTERS):
        return []
    path = Path(pattern)
    try:
        return sorted(
            file for file in Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))) if file.is_file()
        )
    except ValueError as error:
        raise InputError(f"{pattern}: {error}") from None


def is_for_one(output: Path) -> bool:
    """Whether an output is that of one image, and not a folder."""
    return _is_of(output, "image/") and not output.is_dir()


def names_a_video(path: Path) -> bool:
    """Whether a path is that of a video file, there or not."""
    return _is_of(path, "video/") and not path.is_dir()


def _is_of(path: Path, kind: str) -> bool:
    guessed, _ = mimetypes.guess_type(path.name)
    return guessed is not None and guessed.startswith(kind)
