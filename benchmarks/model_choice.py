"""Which built-in model `caflow image` chooses for a photograph, and whether it is the better one.

64×64 pixels are enlarged four times, with one sample of both models. The conditions are files: clean, compressed as
JPEG, WebP or AVIF, a former JPEG that was reduced, with Gaussian noise, or blurred. The table says how often x4-real
was chosen, how often that was right, and how good the chosen results are.

The limits of `caflow_deploy.images.model_choice` were chosen with 24 of these photographs, at their full size. No
photograph of `test` and of other sets that judge the models is used.
"""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import cv2
import numpy as np
import report
import torch
from degradations import generator, noisy
from metrics import SCALE, Crop, Judge, Picture, centre, crop, folder_of, mean_difference, psnr, read
from PIL import Image

from caflow_deploy.images.image_files import read_image
from caflow_deploy.images.image_result import UNUSUAL
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

Change = Callable[[Crop], Picture]
"""Returns the condition of a crop, changed."""


def once_a_jpeg(one: Crop) -> Picture:
    """Return what was a larger JPEG of quality 80."""
    height, width = one.condition.shape[:2]
    large = Image.fromarray(resample(one.condition, int(REDUCED * height), int(REDUCED * width)))
    file = BytesIO()
    large.save(file, "JPEG", quality=80)
    return resample(np.asarray(Image.open(file)), height, width)


def with_noise(sigma: float) -> Change:
    """Return the change that adds Gaussian noise."""
    return lambda one: noisy(one.condition, sigma, generator(one.name))


CASES: dict[str, tuple[Change, str, int]] = {
    "clean": (with_noise(0), "png", 0),
    **{f"{suffix.upper()} {q}": (with_noise(0), suffix, q) for suffix in SUFFIXES for q in QUALITIES},
    "PNG, once a larger JPEG 80": (once_a_jpeg, "png", 0),
    "blur": (lambda one: np.asarray(cv2.GaussianBlur(one.condition, (0, 0), BLUR), np.uint8), "png", 0),
    **{f"noise {sigma}": (with_noise(sigma), "png", 0) for sigma in SIGMAS},
}
"""Change of each condition, and suffix and quality of its file; PNG has no quality."""


def centres() -> list[Crop]:
    """Return the centre 256×256 of the photographs."""
    return [crop(path.stem, centre(read(path)), SCALE) for path in sorted(folder_of(KIND).iterdir())]


def compared(case: str, given: list[Crop], pipes: dict[str, Pipeline], judge: Judge) -> dict[str, Any]:
    """Return the row of one case: how often x4-real is chosen, and LPIPS and PSNR of each model and of the chosen ones.

    "unusual" is the share of a model's results with this verdict.

    The difference is the LPIPS of x4-real minus that of x4-photo, with the half width of its 95 % interval.
    """
    targets, (change, suffix, quality) = [one.target for one in given], CASES[case]
    with TemporaryDirectory() as folder:
        paths = [Path(folder, f"{one.name}.{suffix}") for one in given]
        for one, path in zip(given, paths, strict=True):
            Image.fromarray(change(one)).save(path, quality=quality)
        conditions = [read_image(path).rgb for path in paths]
        is_real = np.array([choose_model(path, pipes[MODELS[1]].degradation).model == MODELS[1] for path in paths])
    row: dict[str, Any] = {"input": case, f"{MODELS[1]} chosen": float(is_real.mean())}
    scores = {}
    for name, pipe in pipes.items():
        drawn = [pipe.sample(one, n=1, seed=k) for k, one in enumerate(conditions)]
        images, typicality = [one.images[0][0] for one in drawn], [one.sample_typicality for one in drawn]
        row[f"{name}: unusual"] = float(
            np.mean([known.value[0, 0] < UNUSUAL for known in typicality if known is not None])
        )
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
