"""Plan of `caflow image`: its options, and the models, jobs and settings that follow from them."""

from collections.abc import Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import click

from caflow_cli.command_error import CommandError
from caflow_cli.console import CommandConsole
from caflow_cli.stops import exit_code
from caflow_deploy.commands.drawing_options import check_assumed
from caflow_deploy.commands.execution_options import ExecutionOptions
from caflow_deploy.commands.image_drawing import draw_folder, list_all
from caflow_deploy.commands.image_models import ImageModel, ModelRunner, announce_choices, choose_models, settings_of
from caflow_deploy.commands.image_progress import ImageProgress
from caflow_deploy.commands.jobs import (
    ResultNames,
    is_for_one,
    make_folders,
    plan_jobs,
    warn_of_animations,
    warn_of_results,
    with_input_files,
)
from caflow_deploy.commands.outcome_counter import OutcomeCounter
from caflow_deploy.commands.pipes import refuse_beside
from caflow_deploy.images.image_files import WITH_16_BITS
from caflow_deploy.images.masks import MaskMarks
from caflow_deploy.images.model_passes import Bits
from caflow_deploy.images.result_pictures import names
from caflow_deploy.jobs.executor import Executor
from caflow_deploy.jobs.folder import exclusive_lock
from caflow_deploy.jobs.image_folder import (
    ImageFolder,
    ImageSettings,
    check_free,
    finished,
    holds_same_job,
    without_leftovers,
)
from caflow_deploy.jobs.image_job import ImageJob
from caflow_deploy.jobs.process_image import ProgressCallbacks, process_image
from caflow_deploy.jobs.result_naming import SOURCE, ResultFiles
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.bundle.builtin import DEFAULT_FOR_INPUTS
from caflow_runtime.errors import InputError
from caflow_runtime.pipeline.named_inputs import check_takes
from caflow_runtime.sizes import Size

MASK_IS_MISSING = "{} fills in what a mask marks: also give --mask, an image that is white where something is to go"


@dataclass(frozen=True)
class ImageOptions:
    """Values of the options of the command."""

    bundles: list[Path]
    """The named model, or all models of which one is chosen for each image."""
    execution: ExecutionOptions
    draw: DrawOptions
    files: ResultFiles
    size: Size | None
    bits: Bits | None
    assume: dict[str, float]
    mask: Path | None
    hints: Path | None
    max_pixels: int
    mask_marks: MaskMarks | None

    @property
    def beside(self) -> dict[str, Path]:
        """Files or folders of the model's other inputs, by the name of the input."""
        return {name: place for name, place in (("mask", self.mask), ("hints", self.hints)) if place is not None}

    @property
    def needed(self) -> list[str]:
        """Names of the inputs that the model must take."""
        return [*self.beside, *(["hints"] if self.files.suggest_hints else [])]

    def check(self, output: Path) -> None:
        """Check that the options do not contradict each other.

        Raises:
            CommandError, UsageError: if they do.
        """
        files = self.files
        if self.draw.rejects and (files.keep_all or files.sheet):
            raise CommandError(
                "--min-typicality does not work with --keep-all and --sheet, which show all samples; give one or the "
                "other"
            )
        if is_for_one(output) and (files.format != SOURCE or files.suffix):
            raise click.UsageError("--format and --suffix require a folder as -o, but this -o names a single file")
        refuse_beside(output, {"--keep-all": files.keep_all, "--sheet": files.sheet, "--maps": files.maps})

    def open_models(self) -> list[ImageModel]:
        """Open the models of the command.

        Raises:
            InputError: if a model or its calibration does not support the options.
        """
        bundles = self.bundles
        if len(bundles) > 1 and self.needed:
            bundles = [Path(DEFAULT_FOR_INPUTS[self.needed[0]])]
        shows_all = self.files.keep_all or self.files.sheet or self.files.maps
        executions = [replace(self.execution, bundle=bundle) for bundle in bundles]
        models = [ImageModel.open(one, self.draw, self.max_pixels, shows_all) for one in executions]
        model = models[0].pipe.manifest.model
        check_assumed(self.assume, [one.pipe for one in models])
        if self.size is not None:
            self.size.check_fits(model.scale)
            if self.draw.judge == "image" and self.size.scale != model.scale:
                raise InputError(
                    f"--judge image requires results of the model's own size, {model.scale} times the width and height "
                    "of IN; give --judge sample, or remove --scale, --width, --height and --fit"
                )
        for name in self.needed:
            check_takes(model, name)
        if self.mask is None and any(port.preparation == "fill" for port in model.inputs):
            raise CommandError(MASK_IS_MISSING.format(models[0].execution.bundle))
        return models

    def names(self, output: Path, model: ImageModel) -> ResultNames:
        """Return the names of the files that are written for each image."""
        files, n = self.files, model.config.number
        extras = ["sheet"] * files.sheet + ["suggested"] * (files.suggest_hints is not None)
        extras += names(model.pipe.manifest.model.levels, 0 if self.draw.rejects else n) if files.maps else []
        return ResultNames(output, files, n - 1 if files.keep_all else 0, extras)


@dataclass(frozen=True)
class ImagePlan:
    """Images of the command, and all that is needed to draw them."""

    options: ImageOptions
    models: Sequence[ImageModel]
    jobs: Sequence[ImageJob]
    output: Path
    force: bool
    tally: OutcomeCounter

    @property
    def is_single(self) -> bool:
        """Whether -o names the file of a single image."""
        return is_for_one(self.output)

    def settings(self, executor: Executor | None = None) -> ImageSettings:
        """Return the settings of a folder. `executor` processes the images; None is the command's own process."""
        options = self.options
        return ImageSettings(
            **settings_of(self.models, executor),
            files=options.files,
            size=options.size,
            bits=options.bits,
            assume=options.assume or None,
            mask_marks=options.mask_marks,
        )

    def list_all(self) -> None:
        """List what would be done for each image.

        Raises:
            InputError: if the command itself could not write its results.
        """
        done: Set[str] = set()
        if not self.force and self.is_single:
            check_free(path for job in self.jobs for path in job.outputs)
        elif not self.force and holds_same_job(self.output, self.jobs, self.settings()):
            done = finished(self.output, self.jobs)
        list_all(self.models, self.jobs, done, self.tally)

    def draw(self) -> None:
        """Draw the image, or all images of the folder that have no result yet.

        Raises:
            InputError: if the results cannot be written, or the folder has another job.
        """
        if self.is_single:
            self._draw_one()
            return
        # The job ends after its workers, which may write a result until they have ended.
        with (
            exclusive_lock(self.output),
            without_leftovers(self.jobs),
            ExitStack() as after_workers,
            ModelRunner(self.models[0]) as runner,
        ):
            images = ImageFolder(self.output, self.jobs, self.settings(runner.executor), self.force)
            after_workers.callback(images.close)
            draw_folder(self.models, runner, images, self.tally)

    def _draw_one(self) -> None:
        if self.options.execution.is_spread:
            raise InputError(f"{self.output} names a single image: --workers and --ray require a folder as -o")
        if not self.force:
            check_free(path for job in self.jobs for path in job.outputs)
        console = self.tally.console
        chosen = choose_models(self.models, self.jobs, console)
        announce_choices(chosen, console)
        ((model, job),) = chosen
        with console.progress_bar() as bar:
            make_folders([job])
            progress = ImageProgress(bar, console, {}, 1)
            shown = ProgressCallbacks(progress.begins, progress.windows)
            try:
                done = process_image(model.pipe, job, model.config, shown, model.max_pixels)
            except KeyboardInterrupt as stop:
                raise CommandError("stopped before the image was finished", exit_code(stop)) from None
            progress.finished(job)
            self.tally.take(done)


def plan_images(
    inputs: Sequence[str], output: Path, options: ImageOptions, force: bool, console: CommandConsole
) -> ImagePlan:
    """Find the images and name their results. Folders that cannot be read are reported.

    Raises:
        InputError: if an option does not fit the model or the images, or a file would be overwritten.
    """
    models, beside = options.open_models(), options.beside
    if options.execution.ray is not None:  # workers on a cluster have other working directories
        inputs, output = [str(Path(text).absolute()) if text else text for text in inputs], output.absolute()
        beside = {name: place.absolute() for name, place in beside.items()}
    warn_of_results(map(Path, inputs), console.warning, output)
    warn_of_animations(map(Path, inputs), console.warning)
    if options.files.maps and (options.draw.rejects or models[0].config.number == 1):
        console.warning(
            "--maps writes no uncertainty map, which compares samples: give -n 2 or more, and no --min-typicality"
        )
    unreadable: list[OSError] = []
    jobs = plan_jobs(inputs, options.names(output, models[0]), force, unreadable.append)
    size, bits, assume, marks = options.size, options.bits, options.assume, options.mask_marks
    jobs = [replace(job, size=size, bits=bits, assume=assume, mask_marks=marks) for job in jobs]
    for job in jobs:
        if job.bits == 16 and job.output.suffix.lower() not in WITH_16_BITS:
            raise InputError(f"{job.output}: --bits 16 requires a result in {', '.join(sorted(WITH_16_BITS))}")
    for name, place in beside.items():
        jobs = with_input_files(jobs, name, place)
    tally = OutcomeCounter(len(jobs), models[0].config, console)
    for error in unreadable:
        tally.take_unreadable(error)
    return ImagePlan(options, models, jobs, output, force, tally)
