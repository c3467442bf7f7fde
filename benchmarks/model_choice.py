"""Which built-in model `caflow image` chooses for a photograph, and whether it is the better one.

64×64 pixels are enlarged four times, with one sample of both models. The conditions are files: clean, compressed as
JPEG, WebP or AVIF, a former JPEG that was reduced, with Gaussian noise, or blurred. The table says how often x4-real
was chosen, how often that was right, and how good the chosen results are.

The thresholds of `caflow_deploy.images.model_choice` were chosen by these tables. No photograph of `test` and of
other sets that judge the models is used.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import cv2
import numpy as np
import report
import torch
from degradations import generator, noisy
from metrics import SCALE, Crop, Judge, centre, crop, folder_of, mean_difference, psnr, read
from PIL import Image

from caflow_deploy.images.image_files import read_image, write_image
from caflow_deploy.images.model_choice import MAX_BLUR, MAX_NOISE, MIN_QUALITY, MODELS, choose_model
from caflow_runtime.linear_light import resample
from caflow_runtime.pipeline.pipeline import Pipeline, load

KIND = "git-validation"
QUALITIES, SIGMAS = (95, 90, 80, 60), (1, 2, 4)
SUFFIXES = ("jpeg", "webp", "avif")
BLUR = 0.7
"""Standard deviation of the blur, in pixels of the condition."""
REDUCED = 1.25
"""How much larger a former JPEG was, by side."""

Save = Callable[[Crop, Path], Path]
"""Writes the condition of a crop to a folder, as an image file, and returns its path."""


def compressed(suffix: str, quality: int) -> Save:
    """Return the function that writes files of a quality."""

    def save(one: Crop, folder: Path) -> Path:
        path = folder / f"{one.name}.{suffix}"
        Image.fromarray(one.condition).save(path, quality=quality)
        return path

    return save


def once_a_jpeg(one: Crop, folder: Path) -> Path:
    """Write a PNG of what was a larger JPEG of quality 80."""
    height, width = one.condition.shape[:2]
    large = Image.fromarray(resample(one.condition, int(REDUCED * height), int(REDUCED * width)))
    large.save(folder / "large.jpg", quality=80)
    path = folder / f"{one.name}.png"
    write_image(path, resample(read_image(folder / "large.jpg").rgb, height, width))
    return path


def blurred(one: Crop, folder: Path) -> Path:
    """Write a blurred PNG."""
    path = folder / f"{one.name}.png"
    write_image(path, np.asarray(cv2.GaussianBlur(one.condition, (0, 0), BLUR), np.uint8))
    return path


def with_noise(sigma: float) -> Save:
    """Return the function that writes PNG files with Gaussian noise; with a `sigma` of 0, without noise."""

    def save(one: Crop, folder: Path) -> Path:
        path = folder / f"{one.name}.png"
        Image.fromarray(noisy(one.condition, sigma, generator(one.name))).save(path)
        return path

    return save


CASES: dict[str, Save] = {
    "clean": with_noise(0),
    **{f"{suffix.upper()} {quality}": compressed(suffix, quality) for suffix in SUFFIXES for quality in QUALITIES},
    "PNG, once a larger JPEG 80": once_a_jpeg,
    "blur": blurred,
    **{f"noise {sigma}": with_noise(sigma) for sigma in SIGMAS},
}


def centres() -> list[Crop]:
    """Return the centre 256×256 of the photographs."""
    return [crop(path.stem, centre(read(path)), SCALE) for path in sorted(folder_of(KIND).iterdir())]


def compared(case: str, given: list[Crop], pipes: dict[str, Pipeline], judge: Judge) -> dict[str, Any]:
    """Return the row of one case: how often x4-real is chosen, and LPIPS and PSNR of each model and of the chosen ones.

    The difference is the LPIPS of x4-real minus that of x4-photo, with the half width of its 95 % interval.
    """
    targets = [one.target for one in given]
    with TemporaryDirectory() as folder:
        paths = [CASES[case](one, Path(folder)) for one in given]
        conditions = [read_image(path).rgb for path in paths]
        is_real = np.array([choose_model(path, pipes[MODELS[1]].degradation).model == MODELS[1] for path in paths])
    row: dict[str, Any] = {"input": case, f"{MODELS[1]} chosen": float(is_real.mean())}
    scores = {}
    for name, pipe in pipes.items():
        images = [pipe.sample(one, n=1, seed=k).images[0][0] for k, one in enumerate(conditions)]
        scores[name] = np.array([judge.lpips(images, targets), list(map(psnr, images, targets))])
    scores["chosen"] = np.where(is_real, scores[MODELS[1]], scores[MODELS[0]])
    for name, (lpips, decibels) in scores.items():
        row |= {f"{name}: LPIPS": float(lpips.mean()), f"{name}: PSNR": float(decibels.mean())}
    is_better = scores[MODELS[1]][0] < scores[MODELS[0]][0]
    row |= {f"{MODELS[1]} better": float(is_better.mean()), "right": float((is_real == is_better).mean())}
    gain, half = mean_difference(scores[MODELS[1]][0], scores[MODELS[0]][0])
    return row | {"difference: LPIPS": gain, "±": half}


@click.command("choice")
@report.options
def judge_choice(threads: int, json_file: Path | None) -> None:
    """Compare the built-in ×4 models, and the choice between them."""
    torch.set_num_threads(threads)
    judge, given = Judge(), centres()
    pipes = {name: load(name, "cpu", threads) for name in MODELS}
    rows = [compared(case, given, pipes, judge) for case in CASES]
    report.show(rows)
    limits: dict[str, Any] = {"min_quality": MIN_QUALITY, "max_noise": MAX_NOISE, "max_blur": MAX_BLUR}
    report.write(json_file, rows, **limits, photographs=len(given), threads=threads)
