"""Work that is spread over processes which hold one pipeline each, whatever starts them.

Work is done at least once: what a process was doing when it died is done again by another.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from caflow_runtime.errors import InputError

if TYPE_CHECKING:
    from caflow_runtime.pipeline.pipeline import Pipeline

ATTEMPTS = 4
"""So often is something begun whose worker dies each time."""
PARTS = 16
"""Each worker is to get at least so many parts of the work, so that all end at about the same time."""
MOST_IN_PART = 16
"""Units that are sent to a worker together, as sending takes time. More would be lost with it."""

Unit = TypeVar("Unit")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Work(Generic[Unit, Result]):
    """Units that workers do."""

    do: "Callable[[Pipeline, Unit], Result]"
    """A function of a module, or a partial one: it is sent by its name."""
    units: Sequence[Unit]
    most_in_part: int = MOST_IN_PART
    in_order: bool = False
    """Whether results come in the order of the units, or as soon as they are done."""

    def parts(self, workers: int) -> list[range]:
        """Cut the units into parts for so many workers."""
        count = len(self.units)
        most = max(1, min(self.most_in_part, count // (PARTS * workers)))
        return [range(k, min(k + most, count)) for k in range(0, count, most)]


@dataclass(frozen=True)
class Place:
    """A bundle, and how each worker runs it."""

    bundle: str
    """A path that all machines have, or the name of a built-in model."""
    settings: dict[str, Any]
    """What `settings_of_pipeline` is to be of it, as `flat` gives it: a worker with another bundle, or calibration, is
    an error."""
    versions: dict[str, str]
    """Of the packages that results depend on (`versions_here`), where workers may have others: that is an error."""
    backend: str
    threads: int
    tiling: dict[str, Any]
    """`pixel_budget` and `overlap`, where they are given."""


class Fleet(Protocol):
    """Workers, each with a pipeline."""

    @property
    def backend(self) -> str:
        """As `Pipeline.backend` is of the workers' pipelines."""

    def run(self, work: Work[Unit, Result]) -> Iterator[tuple[Unit, Result | None]]:
        """Do all units; each comes with its result, or with None if every worker that began it died.

        Raises:
            Exception: what a worker could not open its pipeline for, or `do` raised.
            BackendError: if the workers cannot be kept alive.
        """


def open_pipeline(place: Place) -> "Pipeline":
    """Open the pipeline of a worker.

    Raises:
        InputError: if another bundle is there than the one that is meant, or another version of a package.
        BundleError, BackendError: as of `load`.
    """
    from caflow_deploy.silence import silence

    silence()
    from caflow_runtime.jobs.folder import flat, settings_of_pipeline
    from caflow_runtime.pipeline.pipeline import load

    here = versions_here() if place.versions else {}
    for package, wanted in place.versions.items():
        if (found := here[package]) != wanted:
            raise InputError(f"wanted {package} {wanted}, as where the command runs, found {found}: install that one")
    pipe = load(place.bundle, place.backend, place.threads, **place.tiling)
    if flat(settings_of_pipeline(pipe)) != place.settings:
        raise InputError(
            f"{pipe.folder} is another bundle, or another calibration, than where the command runs: copy that one"
        )
    return pipe


def versions_here() -> dict[str, str]:
    """Return the versions of the packages that results depend on."""
    from caflow_deploy import __version__
    from caflow_runtime.backends.onnx_runtime import import_onnxruntime

    return {"caflow-deploy": __version__, "onnxruntime": import_onnxruntime().__version__}
