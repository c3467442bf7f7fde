"""Pairs of images, lists of them and jobs for the tests of `caflow filter`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import DATA, photograph

from caflow_deploy.filtering.verdict_folder import FilterJob, FilterSettings, hash_of
from caflow_deploy.filtering.verdicts import judge
from caflow_deploy.images.file_search import MAX_IMAGE_PIXELS
from caflow_deploy.images.image_files import write_image
from caflow_deploy.images.pairs import FilePair
from caflow_deploy.jobs.folder import settings_of_pipeline
from caflow_runtime.pipeline.pipeline import Pipeline, load

SIDES = (16, 32)
ALPHA = 0.1
NOISE = 3
"""Every third target is noise, beginning with the first."""


@pytest.fixture(scope="module")
def data(calibrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the subfolders A and B: 13 pairs of two sizes. Every third target is noise."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "A").mkdir()
    (folder / "B").mkdir()
    noise = np.random.default_rng(0)
    with load(calibrated, threads=1) as pipe:
        for k in range(13):
            side = SIDES[k % 2]
            target = photograph(DATA / "photographs", k, side, side)
            if k % NOISE == 0:
                target = noise.integers(0, 256, target.shape, np.uint8)
            write_image(folder / "B" / f"{k:02}.png", target)
            write_image(folder / "A" / f"{k:02}.png", pipe.consistency.degraded(target))
    return folder


def write_list(path: Path, pairs: list[FilePair], **others: object) -> Path:
    path.write_text("".join(json.dumps({**pair._asdict(), **others}) + "\n" for pair in pairs))
    return path


def scores(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]


def settings_of(pipe: Pipeline, pairs: list[FilePair]) -> FilterSettings:
    return FilterSettings(settings_of_pipeline(pipe), ALPHA, MAX_IMAGE_PIXELS, hash_of(pairs))


def run_job(folder: Path, pipe: Pipeline, pairs: list[FilePair]) -> FilterJob:
    """Run a job until all verdicts are written; return the job."""
    job = FilterJob(folder, pairs, settings_of(pipe, pairs))
    list(job.run(judge(pipe, batch, ALPHA, MAX_IMAGE_PIXELS) for batch in job.left))
    return job
