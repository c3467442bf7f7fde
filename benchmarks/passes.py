"""Quality and time of results that are larger than a model makes: of one pass that is enlarged, and of two passes.

The result of the second pass is reduced, as by `caflow image`. Targets are the centres of the test photographs, about
296×296 pixels; the sides of a condition are those of its target divided by the factor.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import report
import torch
from metrics import Crop, Judge, Picture, psnr, read, resize
from scipy.stats import wilcoxon

from caflow_runtime.linear_light import resample
from caflow_runtime.pipeline.pipeline import Pipeline, load

PHOTOGRAPHS = Path("build/photographs")
MAX_SIDE = 296
ENLARGEMENTS = (1.05, 1.25, 1.5, 1.75, 2.0)
"""Factors beyond the model's own."""
SAMPLES = 3
"""Number of samples of each photograph, which are judged one by one."""
ONE_PASS, TWO_PASSES = "one pass, Lanczos", "two passes"
PACKAGES = ("lpips", "onnxruntime", "opencv-python-headless", "pillow", "scipy")

Result = tuple[Picture, float]
"""An enlarged image, and the seconds of CPU time that it took."""


def centres(factor: float, photographs: int | None) -> list[Crop]:
    """Return the centres of the first test photographs, or of all if `photographs` is None, with their conditions."""
    small = int(MAX_SIDE / factor)
    side, found = round(small * factor), []
    for path in sorted((PHOTOGRAPHS / "test").iterdir())[:photographs]:
        picture = read(path)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        target = np.asarray(picture.crop((left, top, left + side, top + side)))
        found.append(Crop(path.stem, target, resize(target, (small, small))))
    return found


def results_of(pipe: Pipeline, given: Crop, seed: int) -> dict[str, Result]:
    """Enlarge a condition to the size of its target by each method. Return the results by method."""
    side = len(given.target)
    small, seconds_of_one = timed(lambda: pipe.best_of(given.condition, 1, seed=seed).images[0])
    large, seconds_of_two = timed(lambda: pipe.best_of(small, 1, seed=seed).images[0])
    ways: dict[str, tuple[Callable[[], Picture], float]] = {
        "bicubic": (partial(enlarged, given.condition, side, cv2.INTER_CUBIC), 0.0),
        "one pass, bicubic": (partial(enlarged, small, side, cv2.INTER_CUBIC), seconds_of_one),
        ONE_PASS: (partial(resample, small, side, side), seconds_of_one),
        TWO_PASSES: (partial(resample, large, side, side), seconds_of_one + seconds_of_two),
    }
    found = {}
    for name, (way, drawing) in ways.items():
        picture, seconds = timed(way)
        found[name] = picture, drawing + seconds
    return found


def enlarged(picture: Picture, side: int, interpolation: int) -> Picture:
    """Enlarge a picture by one of OpenCV's filters."""
    return np.asarray(cv2.resize(picture, (side, side), interpolation=interpolation), np.uint8)


def timed(work: Callable[[], Picture]) -> Result:
    """Return the result of the work, and its seconds of CPU time."""
    began = time.process_time()
    return work(), time.process_time() - began


def rows_of(pipe: Pipeline, judge: Judge, factor: float, crops: list[Crop]) -> list[dict[str, Any]]:
    """Return a row for each method, with the p-value of its LPIPS against one pass, paired over photographs."""
    scores: dict[str, list[tuple[float, float, float]]] = {}
    for k, given in enumerate(crops):
        of_photograph: dict[str, list[tuple[float, float, float]]] = {}
        for sample in range(SAMPLES):
            results = results_of(pipe, given, seed=100 * sample + k)
            distances = judge.lpips([picture for picture, _ in results.values()], [given.target] * len(results))
            for (name, (picture, seconds)), lpips in zip(results.items(), distances, strict=True):
                of_photograph.setdefault(name, []).append((psnr(picture, given.target), lpips, seconds))
        for name, values in of_photograph.items():
            scores.setdefault(name, []).append(tuple(np.mean(values, 0)))
    rows = []
    for name, of_all in scores.items():
        differences = [score[1] - one[1] for score, one in zip(of_all, scores[ONE_PASS], strict=True)]
        p = None if name == ONE_PASS else float(wilcoxon(differences).pvalue)
        means = dict(zip(("psnr", "lpips", "seconds"), np.mean(of_all, 0).tolist(), strict=True))
        better = int(np.sum(np.less(differences, 0)))
        rows.append({"model": pipe.folder.stem, "factor": factor, "method": name, **means, "better": better, "p": p})
    return rows


@click.command()
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--photographs", type=int, help="Use only this number of photographs, for a quick look.")
@report.options
def main(bundles: tuple[Path, ...], photographs: int | None, threads: int, json_file: Path | None) -> None:
    """Judge each BUNDLE at factors of up to twice its own.

    Download the files first: python models/photographs.py KIND build/photographs/KIND, where KIND is test and metrics.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    judge, rows = Judge(PHOTOGRAPHS / "metrics"), list[dict[str, Any]]()
    for bundle in bundles:
        with load(bundle, "cpu", threads) as pipe:
            for enlargement in ENLARGEMENTS:
                factor = enlargement * pipe.manifest.model.scale
                rows += rows_of(pipe, judge, factor, centres(factor, photographs))
                report.show(rows[-4:])
                report.write(json_file, rows, PACKAGES, threads=threads, photographs=photographs, samples=SAMPLES)


if __name__ == "__main__":
    main()
