"""Input and output files of commands about images. They are found and checked before anything is computed."""

import mimetypes
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from caflow_cli.console import counted
from caflow_deploy.images.file_search import (
    ANIMATION_SUFFIXES,
    JOB_FILE,
    READABLE,
    job_folders_below,
    originals_below,
    throw,
)
from caflow_deploy.images.image_files import check_suffix
from caflow_deploy.images.input_files import find_input_files
from caflow_deploy.jobs.folder import make_folder
from caflow_deploy.jobs.image_folder import recorded_outputs
from caflow_deploy.jobs.image_job import ImageJob
from caflow_deploy.jobs.result_naming import ResultFiles
from caflow_runtime.errors import InputError
from caflow_runtime.file_io.paths import as_text, real_path

GLOB_CHARACTERS = "*?["
MAX_NAMED = 3
"""Maximum number of skipped folders that a warning names."""
Found = tuple[Path, Path]
"""A source, and the path of its result below the output folder, before naming conflicts are resolved."""


@dataclass(frozen=True)
class ResultNames:
    """Names of the results of images."""

    output: Path
    """Folder for the results; or the file of a single result."""
    files: ResultFiles
    others: int
    """Number of samples that are written beside the best one."""
    extras: Sequence[str]
    """Further pictures that are written for each image, by the word at the end of their names. In a folder they are
    PNG."""

    def job(self, source: Path, best: Path) -> ImageJob:
        """Return the job of a source whose best sample is written to the path `best`."""
        numbered = tuple(best.with_stem(f"{best.stem}-{k}") for k in range(2, self.others + 2))
        shown = best if best == self.output else best.with_suffix(".png")
        extras = {extra: shown.with_stem(f"{best.stem}-{extra}") for extra in self.extras}
        return ImageJob(source, best, numbered, extras, self.files)

    def jobs(self, sources: Sequence[Found], recorded: Mapping[Path, Path] | None, force: bool) -> list[ImageJob]:
        """Return a job for each source, in the order of the sources.

        A recorded result keeps its name as long as its source exists, whatever is added later. If two other results
        have the same name, it goes to the source that has the format of the result already, or else to the first one.
        The other source takes the next of its names that is free.

        Arguments:
            recorded: if a folder is resumed, its recorded results by their sources. Results may lie in the folder of
                their sources, so sources that are themselves results are removed.
            force: whether recorded names are free again.

        Raises:
            InputError: if a source is a recorded result that would not be a result any more.
        """
        kept = {_place(source): best for source, best in (recorded or {}).items() if source.is_file()}
        given = sources
        if recorded is not None:
            sources = self._without_results(sources, kept)
        earlier = {real_path(path) for place, best in kept.items() for path in self.job(place, best).outputs}
        if force:
            kept = {}
        taken = {path: place for place, best in kept.items() for path in self.job(place, best).outputs}
        jobs = {}
        for source, name in sorted(sources, key=lambda found: not self.files.is_native(found[0])):
            place = _place(source)
            own = [kept[place]] if place in kept else []
            candidates = chain(own, (self.output / one for one in self.files.names(source, name)))
            possible = (self.job(source, best) for best in candidates)
            jobs[source] = next(job for job in possible if all(taken.get(path, place) == place for path in job.outputs))
            taken.update(dict.fromkeys(jobs[source].outputs, place))
        written = {real_path(path) for job in jobs.values() for path in job.outputs}
        _check_remembered([found for found in given if found not in sources], earlier - written)
        return [jobs[source] for source, _ in sources]

    def _without_results(self, sources: Sequence[Found], kept: Mapping[Path, Path]) -> list[Found]:
        """Return the sources that are not results of another source."""
        makers: dict[Path, set[Path]] = {}
        for source, name in sources:
            best = kept.get(_place(source), self.output / next(self.files.names(source, name)))
            for path in self.job(source, best).outputs:
                makers.setdefault(real_path(path), set()).add(source)
        return [found for found in sources if not makers.get(real_path(found[0]), set()) - {found[0]}]


def _check_remembered(results: Sequence[Found], forgotten: Set[Path]) -> None:
    """Check that no result of a replaced job lies among the inputs, where the next run would take it for an input.

    Arguments:
        results: sources that were left out because they are results.
        forgotten: resolved paths of the results that no record will name any more.

    Raises:
        InputError: if the check fails.
    """
    for path, _ in results:
        if real_path(path) in forgotten:
            raise InputError(
                f"{path} is a result of the job that --force replaces, and would later count as an input; remove it "
                "and the others like it, or choose another -o"
            )


def _place(source: Path) -> Path:
    """Return the path of a source with its folder resolved. The name is not: a link is a source of its own."""
    return real_path(source.parent) / source.name


def plan_jobs(
    inputs: Iterable[str],
    names: ResultNames,
    force: bool = False,
    on_error: Callable[[OSError], object] = throw,
) -> list[ImageJob]:
    """Return the jobs for files, folders and globs.

    Arguments:
        inputs: names of files or folders, or globs.
        names: names of the results.
        force: whether to ignore the names of existing results.
        on_error: called with the error of each folder that cannot be read, if its input contains images besides.

    Raises:
        InputError: if an input does not exist or would be overwritten, or if a result would become an input.
        OSError: if a folder cannot be read, and its input contains no image besides.
    """
    inputs, output = tuple(inputs), names.output
    sources = _once(found for text in inputs for found in _sources(text, output, on_error))
    for_one = is_for_one(output)
    is_file = len(sources) == 1 and not any(Path(text).is_dir() for text in inputs)
    if for_one and not is_file:
        raise InputError(
            f"{output} names a single image, but the input is a folder or several images; give a folder as -o"
        )
    if is_file and not for_one and output.suffix and not output.is_dir():
        raise InputError(
            f"{output} ends in {output.suffix}, which is no format of images: give a name that ends in .png or .jpg, "
            "or a folder that exists"
        )
    if for_one:
        jobs = [names.job(sources[0][0], output)]
    else:
        recorded = recorded_outputs(output) if (output / JOB_FILE).is_file() else None
        jobs = names.jobs(sources, recorded, force)
    _check_outputs(jobs, "" if for_one else ", or a --suffix")
    return jobs


def warn_of_results(searched: Iterable[Path], warn: Callable[[str], object], output: Path | None = None) -> None:
    """Warn of the folders below that are skipped, because they contain results of earlier jobs.

    Arguments:
        output: folder of the command's own job, which the warning does not name.
    """
    own = output and real_path(output)
    found = {folder for place in searched for folder in job_folders_below(place)}
    others = sorted(folder for folder in found if own not in (real_path(folder), *real_path(folder).parents))
    if others:
        names = ", ".join([*map(as_text, others[:MAX_NAMED]), *["…"] * (len(others) > MAX_NAMED)])
        warn(
            f"skipped {counted(len(others), 'folder')} with results of earlier jobs ({names}): to process them, give "
            "such a folder itself"
        )


def warn_of_animations(searched: Iterable[Path], warn: Callable[[str], object]) -> None:
    """Warn of the animations in folders and below, which are skipped."""

    def ignore(_: OSError) -> None:
        """The search for images reports folders that cannot be read."""

    found = {path for place in searched for path in originals_below(place, ANIMATION_SUFFIXES, ignore)}
    if found:
        suffixes = ", ".join(sorted(ANIMATION_SUFFIXES))
        warn(f"skipped {counted(len(found), 'animation')} ({suffixes}): enlarge each with caflow video")


def with_input_files(jobs: Sequence[ImageJob], name: str, place: Path) -> list[ImageJob]:
    """Return the jobs with the files of an input beside the image.

    Arguments:
        name: name of the model's input, "mask" or "hints".
        place: one file for all images, or a folder with one for each.

    Raises:
        InputError: if an image has no such file, or one would be overwritten.
        OSError: if the folder cannot be read.
    """
    files = find_input_files(name, place, [job.source for job in jobs])
    if written := {real_path(path) for path in files} & {real_path(path) for job in jobs for path in job.outputs}:
        raise InputError(f"{written.pop()} is the {name} of an image and would be overwritten; choose another -o")
    return [replace(job, inputs={**job.inputs, name: path}) for job, path in zip(jobs, files, strict=True)]


def make_folders(jobs: Iterable[ImageJob]) -> None:
    """Make the folders that results are written to.

    Raises:
        InputError: if a folder cannot be made or is not writable.
    """
    for folder in sorted({job.output.parent for job in jobs}):
        make_folder(folder)


def _check_outputs(jobs: list[ImageJob], way: str) -> None:
    sources = {real_path(job.source) for job in jobs}
    for job in jobs:
        check_suffix(job.output)
        for path in job.outputs:
            if real_path(path) in sources:
                raise InputError(f"{path} is an input and would be overwritten; choose another -o{way}")


def _once(sources: Iterable[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Remove repeated files. A file is repeated if its name and its resolved folder are equal to those of another one.

    Links with other names are kept, because each name gets its own result.
    """
    found: dict[Path, tuple[Path, Path]] = {}
    for source, name in sources:
        found.setdefault(real_path(source.parent) / source.name, (source, name))
    return list(found.values())


def _sources(text: str, output: Path, on_error: Callable[[OSError], object]) -> Iterator[tuple[Path, Path]]:
    """Yield the files of one input, each with the path of its result below the output folder."""
    path = Path(text)
    if path.is_dir():
        found = [(file, file.relative_to(path)) for file in _images_in(path, output, on_error)]
    elif path.is_file():
        found = [(path, Path(path.name))]
    else:
        found = [(file, Path(file.name)) for file in matches(text)]
    if not found:
        raise InputError(
            f"{text}: found no image; expected an image, a folder with images, or a glob that matches images"
        )
    yield from found


def _images_in(folder: Path, output: Path, on_error: Callable[[OSError], object]) -> list[Path]:
    """Return the image files in a folder and below, without those in the output folder and results of other jobs."""
    within = real_path(output)
    errors: list[OSError] = []
    files = originals_below(folder, READABLE, errors.append)
    for error in errors:
        if not files:
            raise error
        on_error(error)
    return [file for file in files if within == real_path(folder) or within not in real_path(file).parents]


def matches(pattern: str) -> list[Path]:
    """Return the files that a glob matches, sorted. The list is empty if the text is not a glob.

    Raises:
        InputError: if the glob is invalid.
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
    """Return whether an output names a single image, and not a folder."""
    guessed, _ = mimetypes.guess_type(output.name)
    return guessed is not None and guessed.startswith("image/") and not output.is_dir()
