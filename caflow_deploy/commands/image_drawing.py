"""Work of `caflow image`: it lists, or processes, a single image or the images of a folder."""

from collections.abc import Sequence, Set
from pathlib import Path

from caflow_cli.command_error import FAILED, CommandError
from caflow_cli.console import CommandConsole, counted, resuming
from caflow_cli.stops import exit_code
from caflow_deploy.commands.image_models import ImageModel, ModelRunner, announce_choices, choose_models
from caflow_deploy.commands.image_progress import (
    ImageProgress,
    line_of_folder,
    line_of_image,
    names_of,
    needs_by_header,
)
from caflow_deploy.commands.jobs import make_folders
from caflow_deploy.commands.outcome_counter import OutcomeCounter
from caflow_deploy.images.image_estimate import ImageEstimate
from caflow_deploy.images.native_stderr import native_stderr
from caflow_deploy.jobs.executor import Executor, SerialExecutor
from caflow_deploy.jobs.image_folder import ImageFolder, name_of
from caflow_deploy.jobs.image_job import ImageJob
from caflow_deploy.jobs.process_executor import ProcessExecutor
from caflow_deploy.jobs.process_image import ImageOutcome, inspect_image, refusal
from caflow_deploy.jobs.ray_executor import RayExecutor
from caflow_runtime.errors import CaflowError, format_error
from caflow_runtime.pipeline.estimates import check_memory


def list_all(models: Sequence[ImageModel], jobs: Sequence[ImageJob], done: Set[str], tally: OutcomeCounter) -> None:
    """Do the dry run: list for each image what would be done, and report why images would be rejected.

    Arguments:
        done: outputs (`name_of`) that are finished.
    """
    needs = {}
    left = [job for job in jobs if name_of(job.output) not in done]
    chosen = {job.output: (model, job) for model, job in choose_models(models, left, tally.console)}
    for job in jobs:
        if name_of(job.output) in done:
            tally.console.summary(f"{names_of(job)}: finished already, would be skipped")
            continue
        model, job = chosen[job.output]
        try:
            with native_stderr() as said:
                given, needs[job.output] = inspect_image(model.pipe, job, model.config, model.max_pixels)
        except (CaflowError, OSError) as error:
            tally.take(ImageOutcome(job, wrong=refusal(job, error, said)))
        else:
            tally.warn(job.source, [*said, *given.warnings])
            model_text = f"; {job.choice}" if job.choice else ""
            tally.console.summary(line_of_image(job, needs[job.output]) + model_text)
    if len(needs) > 1:
        tally.console.summary(line_of_folder(needs, len(needs), 1, is_timed=True))
    tally.end_of_failed()


def draw_folder(models: Sequence[ImageModel], runner: ModelRunner, images: ImageFolder, tally: OutcomeCounter) -> None:
    """Process all images of a folder that have no result yet, those of one model after those of another.

    Each image is reported when its line is written.

    Arguments:
        runner: runs the first model.
    """
    make_folders(images.left)
    tally.outcomes.update(images.outcomes)
    done, count = len(images.jobs) - len(images.left), len(images.jobs)
    if images.changed:
        tally.warn_of_changed(images.changed)
    if not images.left:
        tally.console.summary(f"{images.folder} is already complete")
        return
    chosen = choose_models(models, images.left, tally.console)
    announce_choices(chosen, tally.console)
    groups = [(model, [job for one, job in chosen if one is model]) for model in models]
    needs = _plan_folder(groups, runner.executor, tally.console)
    with tally.console.progress_bar() as bar:
        progress = ImageProgress(bar, tally.console, needs, len(images.left), before=done)
        try:
            for model, jobs in groups:
                if jobs:
                    runner.switch(model)
                    for one in images.run(runner.run(jobs, progress)):
                        done += one.wrong is None or one.is_dropped
                        tally.take(one)
        except KeyboardInterrupt as stop:
            raise CommandError(f"stopped: {resuming(done, count, 'image')}", exit_code(stop)) from None
        except (CaflowError, OSError) as error:
            raise CommandError(f"{format_error(error)}: {resuming(done, count, 'image')}", FAILED) from None


def _plan_folder(
    groups: Sequence[tuple[ImageModel, Sequence[ImageJob]]], executor: Executor, console: CommandConsole
) -> dict[Path, ImageEstimate]:
    """Report the number of images and the memory required. Return the needs of the images that can be read.

    Arguments:
        groups: models, and the images of each of them.
        executor: an executor like those of all models.

    Raises:
        TooLittleMemory: if the memory is too small for all workers.
    """
    needs: dict[Path, ImageEstimate] = {}
    for model, jobs in groups:
        readable = [job for job in jobs if len(groups) == 1 or job.choice]  # to choose a model, the images were read
        needs |= needs_by_header(model.pipe, model.config, readable, model.max_pixels)
    count = sum(len(jobs) for _, jobs in groups)
    processes = executor.size if isinstance(executor, ProcessExecutor) else 1
    if console.shows_messages:
        is_timed = isinstance(executor, SerialExecutor)
        console.message(line_of_folder(needs, count, processes, is_timed))
    if processes > 1 and len(needs) > 1:  # otherwise the process that draws an image checks its memory
        check_memory((need.memory for need in needs.values()), processes)
    if isinstance(executor, RayExecutor):
        workers = counted(executor.size, "worker")
        console.message(f"starting {workers} on the cluster; each opens the bundle before its first image")
    return needs
