"""Where a command's work is done: in its own process, by processes of this machine, or on a Ray cluster."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click
import msgspec

from caflow_deploy.cluster.fleet import Fleet, Place, versions_here
from caflow_deploy.cluster.local import open_local_fleet
from caflow_deploy.cluster.ray_fleet import open_ray_fleet
from caflow_deploy.commands.options import Command, open_pipeline
from caflow_runtime.errors import InputError
from caflow_runtime.jobs.folder import PipelineSettings, flat, settings_of_pipeline
from caflow_runtime.pipeline.pipeline import Pipeline


@dataclass(frozen=True)
class Running:
    """What a command was told of where and how it runs."""

    bundle: Path
    backend: str
    threads: int
    pixel_budget: int | None
    overlap: int | None
    workers: int | None
    ray: str | None

    @property
    def is_spread(self) -> bool:
        """Whether other processes do the work."""
        return self.workers is not None or self.ray is not None

    def refuse(self, options: Mapping[str, bool]) -> None:
        """End the command if one of these is given, and other processes do the work."""
        for option, is_given in options.items():
            if is_given and self.is_spread:
                raise click.UsageError(f"{option} does not work with --workers and --ray: give one or the other")

    def open_pipeline(self) -> Pipeline:
        """Open the pipeline of the command's own process; ends the command where it cannot be opened.

        With Ray, whose machines may have GPUs that this one has not, it serves for checks alone.
        """
        backend, threads = ("cpu", 1) if self.ray is not None else (self.backend, self.threads)
        threads = threads or int(self.is_spread)
        return open_pipeline(self.bundle, backend, threads, self.pixel_budget, self.overlap)

    def settings(self, pipe: Pipeline, fleet: Fleet | None) -> PipelineSettings:
        """Return what all results depend on."""
        settings = settings_of_pipeline(pipe, self.pixel_budget, self.overlap)
        return settings if fleet is None else msgspec.structs.replace(settings, backend=fleet.backend)

    @contextmanager
    def open_fleet(self, pipe: Pipeline) -> Iterator[Fleet | None]:
        """Workers that end with the block; None where the command's own process does the work.

        Arguments:
            pipe: the workers open the same bundle, or none.

        Raises:
            InputError: if there can be no such workers.
        """
        if not self.is_spread:
            yield None
            return
        name = str(pipe.folder.absolute() if pipe.folder == self.bundle else self.bundle)  # each has its own built-in
        tiling = {"pixel_budget": self.pixel_budget, "overlap": self.overlap}
        given = {option: value for option, value in tiling.items() if value is not None}
        place = Place(name, flat(settings_of_pipeline(pipe)), {}, self.backend, self.threads or 1, given)
        if self.ray is None:
            with open_local_fleet(place, self.workers or 1) as local:
                yield local
        elif self.backend not in ("auto", "cpu", "cuda"):
            raise InputError(f"--backend {self.backend} does not work with --ray: give --backend cuda, cpu or auto")
        else:
            with open_ray_fleet(self.ray, replace(place, versions=versions_here()), self.workers) as far:
                yield far


def workers_options(command: Command) -> Command:
    """Who does the work."""
    for option in (
        click.option(
            "--ray",
            metavar="auto|HOST:PORT",
            help="Work on a Ray cluster that is running; auto is the one that this machine belongs to. All machines "
            "must see IN, OUT and the bundle under the same paths. Whoever reaches the cluster's ports may run code "
            "there, unless it requires a token.",
        ),
        click.option(
            "--workers",
            metavar="N",
            type=click.IntRange(1),
            help="Work in N processes, each with the bundle in its memory and, by default, one thread. With --ray, "
            "the default is one per GPU, or one per --threads processors.  [default: this process alone]",
        ),
    ):
        command = option(command)
    return command
