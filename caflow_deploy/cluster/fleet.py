"""Interface of workers: processes that hold one pipeline each, and share a list of work.

Each unit of work is done at least once. If a worker dies, another worker repeats the unfinished units.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from caflow_runtime.errors import InputError

if TYPE_CHECKING:
    from caflow_runtime.pipeline.pipeline import Pipeline

ATTEMPTS = 4
"""Number of times that a unit is tried if its worker dies each time."""
PARTS = 16
"""Least number of parts for each worker, if there is enough work, so that all workers finish at about the same time."""
MOST_IN_PART = 16
"""Largest number of units in a part. Parts save time for sending, but all their units are repeated if a worker dies."""

Unit = TypeVar("Unit")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Work(Generic[Unit, Result]):
    """Units of work, and the function that processes each of them."""

    do: "Callable[[Pipeline, Unit], Result]"
    """A function defined in a module, or a `partial` of one. It is pickled by its name."""
    units: Sequence[Unit]
    most_in_part: int = MOST_IN_PART
    in_order: bool = False
    """Whether results are yielded in the order of the units. If not, they are yielded as soon as they are available."""

    def parts(self, workers: int) -> list[range]:
        """Divide the units into parts, as ranges of their indices, for this number of workers."""
        count = len(self.units)
        most = max(1, min(self.most_in_part, count // (PARTS * workers)))
        return [range(k, min(k + most, count)) for k in range(0, count, most)]


@dataclass(frozen=True)
class Place:
    """Bundle that workers open, and settings to run it with."""

    bundle: str
    """Path of the bundle, valid on all machines, or the name of a built-in model."""
    settings: dict[str, Any]
    """Expected `settings_of_pipeline`, as `flat` returns them. A worker with another bundle or calibration fails."""
    versions: dict[str, str]
    """Expected `versions_here`. A worker with other versions fails. Empty if workers run on this machine."""
    backend: str
    threads: int
    tiling: dict[str, Any]
    """`pixel_budget` and `overlap`, if they are given."""


class Fleet(Protocol):
    """Workers that hold one pipeline each."""

    @property
    def backend(self) -> str:
        """`Pipeline.backend` of the workers' pipelines."""

    @property
    def size(self) -> int:
        """Number of workers."""

    def run(self, work: Work[Unit, Result]) -> Iterator[tuple[Unit, Result | None]]:
        """Process all units. Yield each with its result, or with None if every worker that tried it died.

        Raises:
            Exception: whatever `do` raised, or a worker raised while it opened its pipeline.
            BackendError: if workers die repeatedly before they have opened their pipelines.
        """


def open_pipeline(place: Place) -> "Pipeline":
    """Open the pipeline of a worker.

    Raises:
        InputError: if the bundle, or the version of a package, is not that of the command.
        BundleError, BackendError: as from `load`.
    """
    from caflow_deploy.silence import silence

    silence()
    from caflow_runtime.jobs.folder import flat, settings_of_pipeline
    from caflow_runtime.pipeline.pipeline import load

    here = versions_here() if place.versions else {}
    for package, wanted in place.versions.items():
        if (found := here[package]) != wanted:
            raise InputError(
                f"{package} {found} is installed, but the command runs with {wanted}; install {package} {wanted}"
            )
    pipe = load(place.bundle, place.backend, place.threads, **place.tiling)
    if flat(settings_of_pipeline(pipe)) != place.settings:
        raise InputError(
            f"{pipe.folder} is not the bundle of the command, or has another calibration; copy the command's bundle"
        )
    return pipe


def versions_here() -> dict[str, str]:
    """Return the versions of the packages that results depend on."""
    from caflow_deploy import __version__
    from caflow_runtime.backends.onnx_packages import import_onnxruntime

    return {"caflow-deploy": __version__, "onnxruntime": import_onnxruntime().__version__}
