"""Place where a command works: its own process, worker processes on this machine, or a Ray cluster."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click
import msgspec

from caflow_cli.option_values import options
from caflow_deploy.jobs.executor import Executor, SerialExecutor, WorkerConfig, versions_here
from caflow_deploy.jobs.folder import PipelineSettings, flat, settings_of_pipeline
from caflow_deploy.jobs.process_executor import open_process_executor
from caflow_deploy.jobs.ray_executor import open_ray_executor
from caflow_runtime.bundle.builtin import DEFAULT, find_bundle
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.pipeline import Pipeline, load


@dataclass(frozen=True)
class ExecutionOptions:
    """Values of the options about where and how a command works."""

    backend: str
    threads: int
    workers: int | None = None
    ray: str | None = None
    bundle: Path = Path(DEFAULT)

    @property
    def is_spread(self) -> bool:
        """Whether workers do the work."""
        return self.workers is not None or self.ray is not None

    def refuse(self, options: Mapping[str, bool]) -> None:
        """End the command if workers do the work and one of these options is given, which workers do not support."""
        for option, is_given in options.items():
            if is_given and self.is_spread:
                raise click.UsageError(f"{option} does not work with --workers and --ray; give one or the other")

    def open_pipeline(self, is_calibrated: bool = True) -> Pipeline:
        """Open the pipeline of the command's own process. An error ends the command.

        With Ray, the pipeline is used only for checks. It then runs on the CPU, because this machine may lack the GPU
        that the cluster has.
        """
        backend, threads = ("cpu", 1) if self.ray is not None else (self.backend, self.threads)
        threads = threads or int(self.is_spread)
        return load(self.bundle, backend, threads, is_calibrated=is_calibrated)

    def settings(self, pipe: Pipeline, executor: Executor | None = None) -> PipelineSettings:
        """Return the settings of the pipeline that results depend on."""
        settings = settings_of_pipeline(pipe)
        return settings if executor is None else msgspec.structs.replace(settings, backend=executor.backend)

    @contextmanager
    def open_executor(self, pipe: Pipeline, is_calibrated: bool = True) -> Iterator[Executor]:
        """Yield what processes the units of a job: this process, or workers that end with the block.

        Arguments:
            pipe: the command's own pipeline. Workers must open the same bundle.
            is_calibrated: False if workers ignore the bundle's calibration, as in `load`.

        Raises:
            InputError: if the cluster cannot be reached, or the backend does not work with Ray.
        """
        if not self.is_spread:
            yield SerialExecutor(pipe)
            return
        # Built-in models keep their name, because each machine has its own copy.
        name = str(pipe.folder if find_bundle(self.bundle) == self.bundle else self.bundle)
        given = {"is_calibrated": is_calibrated}
        config = WorkerConfig(name, flat(settings_of_pipeline(pipe)), {}, self.backend, self.threads or 1, given)
        if self.ray is None:
            with open_process_executor(config, self.workers or 1) as processes:
                yield processes
        elif self.backend not in ("auto", "cpu", "cuda"):
            raise InputError(f"--backend {self.backend} does not work with --ray; give --backend auto, cpu or cuda")
        else:
            with open_ray_executor(self.ray, replace(config, versions=versions_here()), self.workers) as actors:
                yield actors


workers_option = click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1),
    help="Work in N processes. Each process loads the bundle into its own memory. Each has one thread, or as many as "
    "--threads says if that is above 0.  [default: no worker processes]",
)


workers_options = options(
    workers_option,
    click.option(
        "--ray",
        metavar="auto|HOST:PORT",
        help="Run on an existing Ray cluster; auto is the cluster that this machine belongs to. All machines must "
        "see the input, the output and the bundle under the same paths. Anyone who can reach the ports of the "
        "cluster can run code on it, unless it requires a token. The default of --workers is then one process per "
        "GPU, or one per --threads cores. Requires the package ray.",
    ),
)
"""Options about workers."""
