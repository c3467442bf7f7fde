"""Calibration of a model with a folder of photographs, by one call. A stopped calibration is resumed."""

import os
from collections.abc import Iterable, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from caflow_deploy.filtering.calibrate import learn_calibration
from caflow_deploy.filtering.calibration_job import (
    FOLDER,
    CalibrationJob,
    CalibrationSettings,
    measure_photograph,
    survey_photographs,
)
from caflow_deploy.images.file_search import JOB_FILE
from caflow_deploy.images.open_models import RunOptions
from caflow_deploy.images.photographs import Photograph, photographs_in
from caflow_deploy.jobs.executor import Executor, SerialExecutor
from caflow_deploy.jobs.folder import exclusive_lock, settings_of_pipeline
from caflow_runtime.bundle.builtin import find_bundle
from caflow_runtime.checks import LARGEST_WORD, check_integer, checked_path, is_number, shown
from caflow_runtime.errors import InputError
from caflow_runtime.ood.calibration import Calibration, WrongCalibration, read_calibration, write_calibration
from caflow_runtime.option_fields import Options
from caflow_runtime.pipeline.pipeline import Pipeline, load

MIN_MULTIPLES = 2
"""Smallest side of the crops, in size multiples of the model. Smaller crops give no usable calibration."""


class CalibrateOptions(Options, frozen=True):
    """What a calibration is learned from.

    Raises:
        InputError: if a value is not valid.
    """

    sides: Sequence[int] = (64, 128, 256)
    """Widths of the square crops to learn from, in pixels of the target. They must be at least twice the number to
    which the model pads sizes, which caflow info prints."""
    temperatures: Sequence[float] = (0.0, 0.5, 0.7, 0.8, 0.9, 1.0)
    """Temperatures of the samples to learn from: all that you will draw with. The temperature
    that the model is best used with is added."""
    seed: Annotated[int, Meta(ge=0, le=LARGEST_WORD)] = 0
    """Seed of the crops and samples."""
    force: bool = False
    """Overwrite an existing calibration."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sides:
            raise InputError("sides must contain a number of pixels, such as 64")
        for side in self.sides:
            check_integer("sides", side, 1)
        given = self.temperatures
        if not all(is_number(value) and value >= 0 for value in given) or len(set(given)) < len(given):
            raise InputError(f"temperatures must be different numbers of at least 0, such as 0.8; got {shown(given)}")
        msgspec.structs.force_setattr(self, "temperatures", tuple(sorted(map(float, given))))


class CalibrationProgress:
    """Receiver of the progress of a calibration. This one ignores it."""

    def reading(self, photographs: Sequence[Photograph]) -> Iterable[Photograph]:
        """Return the photographs, which are read as they are taken from here."""
        return photographs

    def skipped(self, why: str) -> None:
        """Take the reason why a photograph cannot be used."""

    def measured(self, done: int, count: int) -> None:
        """Take the number of photographs that are measured, before the first one and after each."""


def calibrate(
    model: str | PathLike[str],
    data: str | PathLike[str],
    *,
    options: CalibrateOptions = CalibrateOptions(),
    run: RunOptions = RunOptions(),
) -> Calibration:
    """Learn from photographs which likelihoods are typical, and write them into a bundle.

    The same call resumes after a stop. A reliable calibration takes some hundred photographs.

    Arguments:
        model: folder of the bundle, or name of a model whose folder is writable.
        data: folder of photographs that the model was not trained on; or of pairs: the subfolders A (conditions) and B
            (targets).
        options: what it is learned from, and whether an existing calibration is replaced.
        run: where the model runs, and the largest photograph that is read.

    Raises:
        InputError: if an argument is not valid, the bundle is calibrated already, or there are too few photographs.
        BundleError, BackendError: if the model cannot be opened or run.
        OSError: if the calibration cannot be written.
    """
    folder = find_bundle(checked_path("model", model))
    check_free(folder, options.force)
    # An existing calibration may be damaged or belong to another bundle, so do not read it. It is replaced at the end.
    with load(folder, run.backend, run.threads, is_calibrated=False) as pipe:
        settings = settings_for(pipe, options, run.max_pixels)
        return calibrate_pipeline(pipe, SerialExecutor(pipe), checked_path("data", data), settings, options.force)


def settings_for(pipe: Pipeline, options: CalibrateOptions, max_pixels: int) -> CalibrationSettings:
    """Return the settings that a calibration depends on."""
    pipeline = msgspec.structs.replace(settings_of_pipeline(pipe), calibration=None)
    temperatures = sorted({*options.temperatures, pipe.manifest.model.sampling.temperature})
    return CalibrationSettings(pipeline, list(options.sides), temperatures, options.seed, max_pixels)


def calibrate_pipeline(
    pipe: Pipeline,
    executor: Executor,
    data: Path,
    settings: CalibrationSettings,
    force: bool,
    progress: CalibrationProgress = CalibrationProgress(),
) -> Calibration:
    """Calibrate an open bundle.

    Raises:
        InputError, OSError: as from `calibrate`.
    """
    photographs = _photographs(pipe, data, settings.sides)
    if not os.access(pipe.folder, os.W_OK):
        raise InputError(f"{pipe.folder} is not writable; calibrate a copy of it")
    with exclusive_lock(pipe.folder / FOLDER):
        crops, survey = survey_photographs(progress.reading(photographs), pipe, settings, progress.skipped)
        survey.check()
        job = CalibrationJob(pipe.folder / FOLDER, crops, settings, force)
        left = job.left
        done = len(crops) - len(left)
        progress.measured(done, len(crops))
        measure = partial(measure_photograph, settings=settings)
        for line in executor.results(measure, left, lambda one: str(one.photograph.path)):
            job.write(line)
            done += 1
            progress.measured(done, len(crops))
        found = learn_calibration(pipe, survey, job.measures, settings.temperatures, settings.seed)
        write_calibration(pipe.folder, found)
        job.remove()
    return found


def check_free(folder: Path, force: bool) -> None:
    """Refuse to overwrite a valid calibration without `force`: it may be that of a built-in model.

    A job that was stopped may overwrite it, because it was begun with `force`.

    Raises:
        InputError: if the bundle in this folder is calibrated.
    """
    if (folder / FOLDER / JOB_FILE).is_file():
        return
    try:
        found = read_calibration(folder)
    except WrongCalibration:
        return
    if found is not None and not force:
        raise InputError(
            f"{folder} is calibrated already; calibrate a copy of it, or use `force` to overwrite the calibration"
        )


def _photographs(pipe: Pipeline, data: Path, sides: Sequence[int]) -> list[Photograph]:
    """Return the photographs to learn from.

    Raises:
        InputError: if there are fewer than two photographs, or crops would be too small.
    """
    photographs = photographs_in(data)
    names = {photograph.name for photograph in photographs}
    if len(names) < 2:
        raise InputError(
            f"{data}: expected at least 2 photographs; found {len(names)}. All pairs in one folder below A and B count "
            "as one photograph"
        )
    smallest = MIN_MULTIPLES * pipe.manifest.model.size_multiple
    if min(sides) < smallest and any(photograph.condition is None for photograph in photographs):
        raise InputError(f"`sides` must be at least {smallest} pixels for this model; got {min(sides)}")
    return photographs
