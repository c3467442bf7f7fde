"""Photographs of a training run: which ones are trained on, which ones are held out, and a hash of all of them."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from caflow_training.crop_sampler import TRAINING_STREAM, VALIDATION_STREAM, CropSampler
from caflow_training.photographs import DataError, Photographs, find_photographs, split_by_file
from caflow_training.processes import Processes
from caflow_training.recipe import Recipe


@dataclass(frozen=True)
class TrainingData:
    """Crops for training and for validation."""

    training: CropSampler
    held_out: CropSampler
    digest: int
    """Hash of the names and sizes of all photographs, by which a resumed run recognizes them."""


def find_training_data(recipe: Recipe, data: Path, processes: Processes, say: Callable[[str], None]) -> TrainingData:
    """Find the photographs in `data`. Return crops of one part for training and of the other part for validation.

    Arguments:
        say: called with a line for each file that is skipped, and with the numbers of photographs.

    Raises:
        DataError: if there are too few photographs, or the processes found different ones.
    """
    config = recipe.training
    found = find_photographs(data, recipe.model.task, config.crop, config.max_pixels, shows_progress=processes.leads)
    training, held_out = split_by_file(found, config.validation_share)
    if processes.leads:
        for path, reason in found.skipped.items():
            say(f"skipped: {path} {reason}")
        say(f"photographs: {len(training.targets)} for training, {len(held_out.targets)} held out for validation")
    digest = photographs_digest(found, data)
    if not processes.agree(digest):
        raise DataError(
            f"{data}: process {processes.rank} found {len(found.targets)} photographs, but another process found other "
            "files: --data must contain the same files on every machine"
        )

    task, degradations = recipe.model.task, recipe.degradations
    without_patterns = replace(degradations, pattern_share=0.0)  # bits/dim of patterns say nothing about photographs
    return TrainingData(
        CropSampler(training, task, config, TRAINING_STREAM, degradations),
        CropSampler(held_out, task, config, VALIDATION_STREAM, without_patterns),
        digest,
    )


def photographs_digest(photographs: Photographs, folder: Path) -> int:
    """Return a hash of the names and sizes of all files, targets and conditions, as a positive int64."""
    paths = [*photographs.targets, *(photographs.conditions or [])]
    files = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths]
    return int.from_bytes(sha256(json.dumps(files).encode()).digest()[:7])
