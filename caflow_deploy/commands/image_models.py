"""Models of `caflow image`: the one that `--model` names, or those from which one is chosen for each image."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import click

from caflow_cli.console import CommandConsole, counted
from caflow_deploy.commands.drawing_options import draw_options_for
from caflow_deploy.commands.execution_options import ExecutionOptions
from caflow_deploy.commands.image_progress import ImageProgress
from caflow_deploy.commands.pipeline_options import BUNDLES, BundlePath
from caflow_deploy.commands.pipes import shown
from caflow_deploy.images.model_choice import MODELS, Estimate, choose_model
from caflow_deploy.images.native_stderr import native_stderr
from caflow_deploy.jobs.executor import Executor, SerialExecutor, WorkerLost
from caflow_deploy.jobs.image_folder import ModelSettings
from caflow_deploy.jobs.image_job import ImageJob
from caflow_deploy.jobs.process_image import ImageOutcome, ProgressCallbacks, check_claimed_size, process_image
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.bundle.builtin import DEFAULT, DEFAULT_FOR_DEGRADED
from caflow_runtime.errors import CaflowError
from caflow_runtime.file_io.paths import as_text
from caflow_runtime.pipeline.pipeline import Pipeline

REASONS = ("no damage was found", "they look compressed, noisy or blurred")
"""Why each of `MODELS` is chosen for several images."""


def _bundles(_: click.Context, __: click.Parameter, bundle: Path | None) -> list[Path]:
    return [*map(Path, MODELS)] if bundle is None else [bundle]


bundles_option = click.option(
    "--model",
    "bundles",
    type=BundlePath(),
    callback=_bundles,
    help=f"Model to use: {BUNDLES}.  [default: chosen for each image: {DEFAULT_FOR_DEGRADED} for those that look "
    f"compressed, noisy or blurred, {DEFAULT} for all others]",
)
"""Option for the bundle. Its value is a list: the given bundle, or all models to choose from."""


@dataclass(frozen=True)
class ImageModel:
    """A model of the command, and the settings with which it processes images."""

    execution: ExecutionOptions
    pipe: Pipeline
    config: DrawOptions
    max_pixels: int

    @classmethod
    def open(cls, execution: ExecutionOptions, draw: DrawOptions, max_pixels: int, shows_all: bool) -> Self:
        """Open the bundle.

        Arguments:
            shows_all: whether all samples are wanted, not only the best one.

        Raises:
            InputError: if the model or its calibration does not support the settings.
        """
        pipe = execution.open_pipeline()
        options = draw_options_for(pipe, draw)
        return cls(execution, pipe, options.for_result(1, shows_all) if shows_all else options, max_pixels)


class ModelRunner:
    """Runs one model at a time: its executor is open until another model starts, or the block ends."""

    executor: Executor

    def __init__(self, model: ImageModel) -> None:
        self._start(model)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def switch(self, model: ImageModel) -> None:
        """Let a model run. If another one ran before, its workers end, and its memory is freed."""
        if model is not self._model:
            self._running.close()
            self._model.pipe.close()
            self._start(model)

    def run(self, jobs: Sequence[ImageJob], progress: ImageProgress) -> Iterator[ImageOutcome]:
        """Process all jobs and yield their outcomes: in order without workers, as they are finished with workers."""
        process = partial(process_image, config=self._model.config, max_pixels=self._model.max_pixels)
        if isinstance(self.executor, SerialExecutor):  # workers cannot call functions of this process
            process = partial(process, callbacks=ProgressCallbacks(progress.begins, progress.windows))
        for job, found in self.executor.run(process, jobs, lambda job: str(job.source)):
            progress.finished(job)
            yield ImageOutcome(job, wrong=str(found)) if isinstance(found, WorkerLost) else found

    def _start(self, model: ImageModel) -> None:
        self._model = model
        with ExitStack() as stack:
            self.executor = stack.enter_context(model.execution.open_executor(model.pipe))
            self._running = stack.pop_all()


def settings_of(models: Sequence[ImageModel], executor: Executor | None = None) -> dict[str, Any]:
    """Return the fields of `ImageSettings` that depend on the models.

    Arguments:
        executor: what processes the images; None is the command's own process.
    """
    first, *further = (ModelSettings(one.execution.settings(one.pipe, executor), one.config) for one in models)
    return {"pipeline": first.pipeline, "config": first.config, "further_models": tuple(further) or None}


def choose_models(
    models: Sequence[ImageModel], jobs: Sequence[ImageJob], console: CommandConsole
) -> list[tuple[ImageModel, ImageJob]]:
    """Return each job with its model: the only one, or the one that is chosen for the image.

    Images that cannot be read get the first model, which reports their errors.

    Arguments:
        models: one model, or those of `MODELS`.
    """
    if len(models) == 1:
        return [(models[0], job) for job in jobs]
    by_name = dict(zip(MODELS, models, strict=True))
    with console.progress_bar() as bar:
        estimate = by_name[DEFAULT_FOR_DEGRADED].pipe.degradation
        chosen = [_with_choice(models[0], job, estimate) for job in bar.track(jobs, description="choosing models")]
    return [(models[0] if job.choice is None else by_name[job.choice.model], job) for job in chosen]


def announce_choices(chosen: Sequence[tuple[ImageModel, ImageJob]], console: CommandConsole) -> None:
    """Report which models were chosen and why: for a single image, or for the images of each model."""
    choices = [job.choice for _, job in chosen if job.choice is not None]
    if len(chosen) == len(choices) == 1:
        console.message(shown(f"{as_text(chosen[0][1].source)}: {choices[0]}"))
        return
    for model, usual in zip(MODELS, REASONS, strict=True):
        reasons = [choice.reason for choice in choices if choice.model == model]
        if reasons:
            because = reasons[0] if len(reasons) == 1 else usual
            console.message(f"{model}: {counted(len(reasons), 'image')}, because {because}")


def _with_choice(model: ImageModel, job: ImageJob, estimate: Estimate) -> ImageJob:
    """Return a job with the choice for its image; without one if the image cannot be read.

    Arguments:
        model: a model that estimates whether there is enough memory to read the image.
        estimate: as in `choose_model`.
    """
    try:
        with native_stderr():  # The messages of decoders are reported when the image is processed.
            check_claimed_size(model.pipe, job, model.config, model.max_pixels)
            return replace(job, choice=choose_model(job.source, estimate, model.max_pixels))
    except (CaflowError, OSError, MemoryError):
        return job
