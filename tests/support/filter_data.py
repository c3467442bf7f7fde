"""Pairs of images, lists of them and jobs for the tests of `caflow filter`."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import DATA, photograph

from caflow_runtime.image_formats import MAX_IMAGE_PIXELS
from caflow_runtime.image_io.image_files import write_image
from caflow_runtime.jobs.folder import settings_of_pipeline
from caflow_runtime.jobs.pairs import FilePair
from caflow_runtime.jobs.verdict_folder import FilterJob, FilterSettings, hash_of
from caflow_runtime.jobs.verdicts import judge
from caflow_runtime.ood.verdict import Verdict
from caflow_runtime.pipeline.pipeline import Pipeline, load

SIDES = (16, 32)
ALPHA = 0.1
NOISE = 3
"""Every third target is noise, beginning with the first."""


@pytest.fixture(scope="module")
def bundle(calibrated: Path) -> Path:
    return calibrated


@pytest.fixture
def pipe(bundle: Path) -> Iterator[Pipeline]:
    with load(bundle, threads=1) as pipe:
        yield pipe


@pytest.fixture(scope="module")
def data(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the subfolders A and B: 13 pairs of two sizes. Every third target is noise."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "A").mkdir()
    (folder / "B").mkdir()
    noise = np.random.default_rng(0)
    with load(bundle, threads=1) as pipe:
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


def judged(pipe: Pipeline, job: FilterJob) -> Iterator[list[Verdict]]:
    return (judge(pipe, batch, ALPHA, MAX_IMAGE_PIXELS) for batch in job.left)


def run_to(folder: Path, pipe: Pipeline, pairs: list[FilePair], count: int) -> FilterJob:
    """Run a job until `count` more verdicts are written; return the job."""
    job = FilterJob(folder, pairs, settings_of(pipe, pairs))
    verdicts = job.run(judged(pipe, job))
    list(islice(verdicts, count))
    verdicts.close()  # type: ignore[attr-defined]
    return job
