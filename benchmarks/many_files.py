"""Benchmark of workers on one machine, as processes and on Ray, against one process that draws images in a loop.

The process has as many threads as there are workers, and each worker has one thread. The variants take turns on the
same processors. The time until the first result is reported separately, because a job has it only once.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import click
import numpy as np
import report

from caflow_deploy.images.image_files import read_image, write_image
from caflow_deploy.jobs.executor import Executor, WorkerConfig, WorkerLost, versions_here
from caflow_deploy.jobs.folder import flat, settings_of_pipeline
from caflow_deploy.jobs.image_job import ImageJob
from caflow_deploy.jobs.process_executor import open_process_executor
from caflow_deploy.jobs.process_image import ImageOutcome, process_image
from caflow_deploy.jobs.ray_executor import open_ray_executor
from caflow_runtime.batching.draw_options import DrawOptions
from caflow_runtime.pipeline.pipeline import load

SIDE, SAMPLES = 16, 4


def cut_crops(photographs: Path, folder: Path, count: int) -> list[ImageJob]:
    """Write `count` small crops of the photographs to files, and return a job for each file."""
    places = np.random.default_rng(0)
    pictures = [read_image(path).rgb for path in sorted(photographs.glob("*.jpg"))]
    jobs = []
    for k in range(count):
        picture = pictures[k % len(pictures)]
        y, x = (int(places.integers(0, length - SIDE)) for length in picture.shape[:2])
        source = folder / f"{k}.png"
        write_image(source, np.ascontiguousarray(picture[y : y + SIDE, x : x + SIDE]))
        jobs.append(ImageJob(source, folder / f"large-{k}.png", (), {}))
    return jobs


def in_a_loop(bundle: Path, threads: int, jobs: list[ImageJob], config: DrawOptions) -> Iterator[ImageOutcome]:
    """Yield the results of one process with this number of threads."""
    with load(bundle, backend="cpu", threads=threads) as pipe:
        yield from (process_image(pipe, job, config) for job in jobs)


def by_workers(
    executor: AbstractContextManager[Executor], jobs: list[ImageJob], config: DrawOptions
) -> Iterator[ImageOutcome]:
    """Yield the results of the workers of an executor."""
    with executor as running:
        for _, found in running.run(partial(process_image, config=config), jobs):
            if not isinstance(found, WorkerLost):
                yield found


def config_of(bundle: Path) -> WorkerConfig:
    """Return the settings of a worker: this bundle on the CPU, with one thread."""
    with load(bundle, backend="cpu") as pipe:
        return WorkerConfig(str(bundle), flat(settings_of_pipeline(pipe)), versions_here(), "cpu", 1, {})


def measure(results: Iterator[ImageOutcome], count: int) -> dict[str, float]:
    """Return the seconds until the first result, the results per second after the first tenth, and all seconds."""
    started = time.perf_counter()
    came = []
    for done in results:
        assert done.report is not None, done.wrong
        came.append(time.perf_counter() - started)
    skipped = count // 10
    return {
        "start, s": came[0],
        "images/s": (count - 1 - skipped) / (came[-1] - came[skipped]),
        "all, s": time.perf_counter() - started,
    }


@click.command("files")
@report.BUNDLE
@click.argument("photographs", type=click.Path(path_type=Path, exists=True))
@report.options
@click.option("--count", default=500, show_default=True, help="Number of crops.")
@report.ROUNDS
def measure_files(
    bundle: Path, photographs: Path, threads: int, json_file: Path | None, count: int, rounds: int
) -> None:
    """Compare one process of --threads threads with as many workers of one thread: BUNDLE, on crops of PHOTOGRAPHS."""
    bundle = bundle.absolute()
    worker = config_of(bundle)
    config = DrawOptions(SAMPLES)
    with tempfile.TemporaryDirectory() as name:
        jobs = cut_crops(photographs, Path(name), count)
        runs: dict[str, Callable[..., Iterator[ImageOutcome]]] = {
            f"a loop, {threads} threads": partial(in_a_loop, bundle, threads),
            f"{threads} workers": lambda *given: by_workers(open_process_executor(worker, threads), *given),
            f"{threads} workers on Ray": lambda *given: by_workers(open_ray_executor(None, worker, threads), *given),
        }
        found: dict[str, list[dict[str, float]]] = {run: [] for run in runs}
        for _ in range(rounds):
            for run, start in runs.items():
                found[run].append(measure(start(jobs, config), count))
    medians = [{key: statistics.median(each[key] for each in of_run) for key in of_run[0]} for of_run in found.values()]
    rows = [
        {"run": run, **of_run, "× the loop": of_run["images/s"] / medians[0]["images/s"]}
        for run, of_run in zip(runs, medians, strict=True)
    ]
    report.show(rows)
    report.write(json_file, rows, {"rounds": found}, count=count, n=SAMPLES, threads=threads, side=SIDE)
