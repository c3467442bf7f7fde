"""Which file of a folder gets which result: no two get the same one, and what is there keeps its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from caflow_runtime.jobs.image_job import ImageJob
from caflow_runtime.jobs.result_files import ResultFiles

Found = tuple[Path, Path]
"""A source, and its name below the folder of results."""


@dataclass(frozen=True)
class ResultNames:
    """Names of the results of images."""

    output: Path
    """The folder; or a file, of one image."""
    files: ResultFiles
    others: int
    """Samples that are written beside the best."""
    extras: Sequence[str]
    """Further pictures of each, as PNG in a folder; a file's name ends in that."""

    def job(self, source: Path, best: Path) -> ImageJob:
        """Return the job of a source with that best result."""
        numbered = tuple(best.with_stem(f"{best.stem}-{k}") for k in range(2, self.others + 2))
        shown = best if best == self.output else best.with_suffix(".png")
        extras = {extra: shown.with_stem(f"{best.stem}-{extra}") for extra in self.extras}
        return ImageJob(source, best, numbered, extras, self.files)

    def jobs(self, sources: Sequence[Found], recorded: Mapping[Path, Path] | None, force: bool) -> list[ImageJob]:
        """Return a job for each source, in their order.

        A result that is recorded keeps its name while its source is there, whatever is added later. Else, where two
        want one name, the source that has the result's format already gets it, or the one that comes first; the other
        one takes the next of its names that is free.

        Arguments:
            recorded: of a folder that is resumed, its best results by their sources. Sources that are such results are
                no sources: a job may write where its images are.
            force: whether all names are free again.
        """
        kept = {_place(source): best for source, best in (recorded or {}).items() if source.is_file()}
        if recorded is not None:
            sources = self._without_results(sources, kept)
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
        return [jobs[source] for source, _ in sources]

    def _without_results(self, sources: Sequence[Found], kept: Mapping[Path, Path]) -> list[Found]:
        """Without those that are results of another one."""
        makers: dict[Path, set[Path]] = {}
        for source, name in sources:
            best = kept.get(_place(source), self.output / next(self.files.names(source, name)))
            for path in self.job(source, best).outputs:
                makers.setdefault(path.resolve(), set()).add(source)
        return [found for found in sources if not makers.get(found[0].resolve(), set()) - {found[0]}]


def _place(source: Path) -> Path:
    """However its folder is written. A link is another source than what it leads to."""
    return source.parent.resolve() / source.name
