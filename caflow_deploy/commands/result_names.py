"""File names of the results in a folder. They are unique, and an existing result keeps its name."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from caflow_deploy.jobs.image_job import ImageJob
from caflow_deploy.jobs.result_naming import ResultFiles
from caflow_runtime.errors import InputError
from caflow_runtime.file_io.real_path import real_path

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
