"""Scores of conditional flows that are trained on 64×64 pixels: likelihoods, errors, diversity and distributions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from metrics import Judge, Picture, ab, crops, psnr, reduce, resize
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from torch import Tensor

from caflow_runtime.completion.filling import fill_smoothly
from caflow_training.holes import central_square
from caflow_training.model import CAFlow
from caflow_training.results import bits_per_dim, to_integers
from caflow_training.tasks import Colorization, DegradingTask, Inpainting, SuperResolution

SIDE, SAMPLES, DRAWS = 64, 10, 8
"""Width and height of targets, samples of each condition, and positions of dequantization for each likelihood."""
PATCHES = 4
"""Patches on each side of a crop that the Fréchet distance compares."""
SMALL = 1e-6
"""Added to the diagonals of covariances, so that they have a square root."""
MASK_AREA = 0.25
START, _, LENGTH = central_square(SIDE, SIDE, MASK_AREA)
HOLE = slice(START, START + LENGTH)
"""Rows, and columns, of the hole of inpainting."""
HOLE_MASK = np.zeros((SIDE, SIDE), bool)
HOLE_MASK[HOLE, HOLE] = True
TASKS: dict[str, DegradingTask] = {
    "super-resolution": SuperResolution(),
    "colorization": Colorization(),
    "inpainting": Inpainting(mask_area=MASK_AREA),
}
REFERENCES: dict[str, tuple[str, Callable[[Picture], Picture]]] = {
    "super-resolution": ("bicubic", lambda condition: resize(condition, (SIDE, SIDE))),
    "colorization": ("grey", lambda condition: condition),
    "inpainting": ("Navier–Stokes", lambda condition: fill_smoothly(condition, HOLE_MASK)),
}
"""Name of a method that learns nothing, and the method, by task."""


def measure(model: CAFlow, task: str, temperature: float, judge: Judge, folders: list[Path]) -> dict[str, float]:
    """Judge samples of a trained model for the crops of photographs that no training saw.

    For each metric: its mean over all samples, which is what one sample has on average; that of the likeliest sample
    of `SAMPLES`; and that of the sample with the best value, which only those who have the target can choose.
    """
    targets, conditions = pairs_of(TASKS[task], folders)
    generator = torch.Generator().manual_seed(0)
    drawn = [samples_of(model, condition, temperature, generator) for condition in conditions]
    likeliest = [images[k] for images, k, _ in drawn]
    found = {
        "deviation": float(np.mean([deviation for _, _, deviation in drawn])),
        "Fréchet, one": frechet_distance(judge, [images[0] for images, _, _ in drawn], targets),
        "Fréchet, likeliest": frechet_distance(judge, likeliest, targets),
    }
    each = [scores(judge, task, images, target) for (images, _, _), target in zip(drawn, targets, strict=True)]
    for name in each[0]:
        values = np.array([of_crop[name] for of_crop in each])
        best = values.max(1) if name.endswith("PSNR") else values.min(1)
        found[f"{name}, mean"] = float(values.mean())
        found[f"{name}, likeliest"] = float(values[np.arange(len(drawn)), [k for _, k, _ in drawn]].mean())
        found[f"{name}, best"] = float(best.mean())
    return found


def references(judge: Judge, folders: list[Path]) -> list[dict[str, Any]]:
    """Judge the results of methods that learn nothing, as `measure` does: one row for each task."""
    rows = []
    for task, (name, method) in REFERENCES.items():
        targets, conditions = pairs_of(TASKS[task], folders)
        results = [method(condition) for condition in conditions]
        each = [scores(judge, task, [result], target) for result, target in zip(results, targets, strict=True)]
        means = {f"{metric}, mean": float(np.mean([of_crop[metric] for of_crop in each])) for metric in each[0]}
        rows.append({"task": task, "method": name, "Fréchet, one": frechet_distance(judge, results, targets), **means})
    return rows


def pairs_of(task: DegradingTask, folders: list[Path]) -> tuple[list[Picture], list[Picture]]:
    """Return the targets of all photographs and their conditions. Holes are at the same place in all."""
    targets = [crop.target for folder in folders for crop in crops(folder, SIDE)]
    if isinstance(task, SuperResolution):
        return targets, [reduce(target) for target in targets]
    return targets, [task.degrade(target, np.random.default_rng(k)) for k, target in enumerate(targets)]


@torch.no_grad()
def samples_of(
    model: CAFlow, condition: Picture, temperature: float, generator: torch.Generator
) -> tuple[list[Picture], int, float]:
    """Draw `SAMPLES` samples of a condition.

    Returns: the images; the position of the likeliest one; and the deviation between samples, the standard deviation of
        a pixel in grey levels. In inpainting, known pixels are put back, and the deviation is that of the hole.
    """
    given = _planes([condition]).expand(SAMPLES, -1, -1, -1)
    drawn = model.sample(given, model.draw_noise(SAMPLES, SIDE, SIDE, generator), temperature)
    images = to_integers(drawn.images).permute(0, 2, 3, 1).numpy()
    seen = images
    if isinstance(model.config.task, Inpainting):
        seen = images[:, HOLE, HOLE]
        images = np.stack([condition] * SAMPLES)
        images[:, HOLE, HOLE] = seen
    return list(images), int(drawn.log_likelihood.total.argmax()), float(seen.astype(float).std(0).mean())


def scores(judge: Judge, task: str, results: list[Picture], target: Picture) -> dict[str, NDArray[np.float64]]:
    """Return the metrics of the results of one condition, by name, (results,) each.

    PSNR is that of the hole, and LPIPS that of the whole crop with the known pixels of inpainting.
    """
    metrics: dict[str, Callable[[Picture], float]] = {
        "super-resolution": {
            "RMSE": lambda one: rmse(one, target),
            "LR-PSNR": lambda one: psnr(reduce(one), reduce(target)),
        },
        "colorization": {"ab RMSE": lambda one: rmse(ab(one), ab(target))},
        "inpainting": {"PSNR": lambda one: psnr(one[HOLE, HOLE], target[HOLE, HOLE])},
    }[task]
    found = {name: np.array([metric(one) for one in results]) for name, metric in metrics.items()}
    return {"LPIPS": np.array(judge.lpips(results, [target] * len(results))), **found}


def rmse(result: NDArray[Any], target: NDArray[Any]) -> float:
    """Return the root mean square error, in grey levels or in the units of a and b."""
    return float(np.sqrt(np.square(result.astype(float) - target).mean()))


@torch.no_grad()
def held_out_bits(model: CAFlow, targets: list[Picture], conditions: list[Picture]) -> float:
    """Return bits per dimension, estimated with `DRAWS` importance-weighted positions of dequantization."""
    generator = torch.Generator().manual_seed(0)
    found = [
        model.importance_log_prob(_planes([target]), _planes([condition]), DRAWS, generator)
        for target, condition in zip(targets, conditions, strict=True)
    ]
    return float(bits_per_dim(torch.cat(found), targets[0].size).mean())


@torch.no_grad()
def frechet_distance(judge: Judge, results: list[Picture], targets: list[Picture]) -> float:
    """Return the Fréchet distance between features of patches: the second stage of AlexNet. It is not the FID."""
    moments = []
    for images in (results, targets):
        stages = judge.network.net(judge.network.scaling_layer(_planes(images).float() / 127.5 - 1))
        pooled = torch.nn.functional.adaptive_avg_pool2d(stages[1], PATCHES)
        features = pooled.permute(0, 2, 3, 1).flatten(0, 2).double().numpy()
        moments.append((features.mean(0), np.cov(features, rowvar=False) + SMALL * np.eye(features.shape[1])))
    (mean, covariance), (other_mean, other_covariance) = moments
    root = np.real(sqrtm(covariance @ other_covariance))
    return float(np.square(mean - other_mean).sum() + np.trace(covariance + other_covariance - 2 * root))


def _planes(images: list[Picture]) -> Tensor:
    """Return images of equal size as (N, 3, H, W) uint8."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
