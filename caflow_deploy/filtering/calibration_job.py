"""Job that calibrates a bundle: a folder in the bundle, with a line of measures for each photograph.

The folder is removed when the calibration is written.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from caflow_deploy.filtering.calibrate import Survey, measure_crops
from caflow_deploy.images.file_search import JOB_FILE
from caflow_deploy.images.photographs import Pair, Photograph, pairs_of, with_grey_copies
from caflow_deploy.jobs.folder import PipelineSettings, State, find_job, flat, has_changed, stamp_of
from caflow_deploy.jobs.journal import Journal
from caflow_runtime.errors import InputError, UnreadableImage
from caflow_runtime.file_io.atomic_files import remove_leftovers
from caflow_runtime.file_io.paths import as_text
from caflow_runtime.pipeline.pipeline import Pipeline

COMMAND = "caflow calibrate"
FOLDER, MEASURES = "calibration.work", "measures.jsonl"


class CalibrationSettings(msgspec.Struct, frozen=True):
    """Settings that the measures depend on. The photographs are not included: their lines name them."""

    pipeline: PipelineSettings
    sides: list[int]
    temperatures: list[float]
    seed: int
    max_pixels: int


@dataclass(frozen=True)
class PhotographCrops:
    """Photograph, and the numbers of its crops among those of all photographs."""

    photograph: Photograph
    first_pair: int
    """Number of the first pair, without grey copies."""
    first: int
    """Number of the first crop, with grey copies."""
    count: int
    """Number of crops, with grey copies."""


class PhotographMeasures(msgspec.Struct, frozen=True):
    """Measures of the crops of a photograph: a line of `measures.jsonl`."""

    target: str
    condition: str | None
    target_stamp: str | None
    condition_stamp: str | None
    first: int
    """`PhotographCrops.first`."""
    measures: list[list[list[float]]]
    """For each crop, what `measure_crops` returns."""
    sha256: str = ""


class CalibrationJob:
    """Photographs and the folder of their measures. The caller must have locked the folder with `exclusive_lock`."""

    def __init__(
        self, folder: Path, photographs: Iterable[PhotographCrops], settings: CalibrationSettings, force: bool
    ) -> None:
        """Begin a job, or resume the job in the folder.

        Arguments:
            force: begin a new job, even if the folder contains one.

        Raises:
            InputError: if the folder contains a job with other settings.
            OSError: if the folder cannot be written to.
        """
        self.folder = folder
        if force or find_job(folder, State, COMMAND, settings, {}) is None:
            (folder / MEASURES).unlink(missing_ok=True)
            State(flat(settings), COMMAND).write(folder)
        remove_leftovers([folder / JOB_FILE, folder / MEASURES])
        self._journal = Journal(folder / MEASURES, PhotographMeasures)
        self._photographs = {one.first: one for one in photographs}
        self._lines = self._journal.resume(self._number_of)

    @property
    def left(self) -> list[PhotographCrops]:
        """Photographs whose crops have not been measured yet."""
        return [one for one in self._photographs.values() if one.first not in self._lines]

    @property
    def measures(self) -> list[list[list[float]]]:
        """Measures of all crops, in the order of the photographs, once nothing is left."""
        return [measured for first in self._photographs for measured in self._lines[first].measures]

    def write(self, line: PhotographMeasures) -> None:
        """Write the measures of a photograph."""
        [self._lines[line.first]] = self._journal.append(line)

    def remove(self) -> None:
        """Remove the files of the job. `exclusive_lock` removes the folder."""
        for name in (MEASURES, JOB_FILE):
            (self.folder / name).unlink(missing_ok=True)

    def _number_of(self, line: PhotographMeasures) -> int | None:
        """Return the number of a photograph's first crop; None if the photograph has changed."""
        crops = self._photographs.get(line.first)
        if (
            crops is None
            or len(line.measures) != crops.count
            or _names(crops.photograph) != (line.target, line.condition)
        ):
            return None
        files = (crops.photograph.path, line.target_stamp), (crops.photograph.condition, line.condition_stamp)
        return None if any(path is not None and has_changed(path, stamp) for path, stamp in files) else line.first


def survey_photographs(
    photographs: Iterable[Photograph], pipe: Pipeline, settings: CalibrationSettings, skip: Callable[[str], object]
) -> tuple[list[PhotographCrops], Survey]:
    """Return the photographs that are readable and large enough, and a survey of their crops.

    Arguments:
        skip: called with the reason for each other photograph.
    """
    found, survey, pair_count = [], Survey(pipe.manifest.model), 0
    for photograph in photographs:
        try:
            pairs = _pairs_of(pipe, photograph, settings)
        except UnreadableImage as error:
            skip(str(error))
            continue
        if not pairs:
            smallest = min(settings.sides)
            skip(f"{photograph.path}: smaller than {smallest}×{smallest} pixels")
            continue
        first = len(survey.names)
        for pair in with_grey_copies(survey.model, pairs, pair_count):
            survey.add(pair)
        found.append(PhotographCrops(photograph, pair_count, first, len(survey.names) - first))
        pair_count += len(pairs)
    return found, survey


def measure_photograph(pipe: Pipeline, crops: PhotographCrops, settings: CalibrationSettings) -> PhotographMeasures:
    """Return the measures of a photograph's crops.

    Raises:
        InputError: if the photograph has changed since the survey.
        NotFinite: as from `measure_crops`.
    """
    photograph = crops.photograph
    stamps = stamp_of(photograph.path), None if photograph.condition is None else stamp_of(photograph.condition)
    pairs = _pairs_of(pipe, photograph, settings)
    pairs = list(with_grey_copies(pipe.manifest.model, pairs, crops.first_pair))
    if len(pairs) != crops.count:
        raise InputError(f"{photograph.path} has changed while the command ran; run the same command again")
    measures = measure_crops(pipe, pairs, settings.temperatures, settings.seed + crops.first)
    return PhotographMeasures(*_names(photograph), *stamps, crops.first, measures)


def _pairs_of(pipe: Pipeline, photograph: Photograph, settings: CalibrationSettings) -> list[Pair]:
    model, degrade = pipe.manifest.model, pipe.consistency.degraded
    return pairs_of(photograph, model, degrade, settings.sides, settings.max_pixels)


def _names(photograph: Photograph) -> tuple[str, str | None]:
    condition = photograph.condition
    return as_text(photograph.path.absolute()), None if condition is None else as_text(condition.absolute())
