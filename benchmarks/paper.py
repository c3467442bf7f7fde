"""The paper's claims: five conditional flows on three tasks of 64×64 pixels, with equal operations, steps and data.

Each cell of the table is one family, one task and one seed. Training resumes after a stop, and cells that are in the
JSON file are not computed again. First: python models/photographs.py KIND build/photographs/KIND for the kinds
training, validation, test and metrics.
"""

import json
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
import report
import torch
from metrics import Judge, Picture, crops, psnr, reduce
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from skimage.color import rgb2lab
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from caflow_training import checkpoint
from caflow_training.config import CAFlowConfig
from caflow_training.model import CAFlow
from caflow_training.recipe import Recipe, TrainingConfig
from caflow_training.results import bits_per_dim, to_integers
from caflow_training.tasks import Colorization, DegradingTask, Inpainting, SuperResolution
from caflow_training.trainer import train

PHOTOGRAPHS = Path("build/photographs")
SIDE, SAMPLES, TEMPERATURE, DRAWS = 64, 10, 0.8, 8
PATCHES = 4
"""Patches on each side of a crop that the Fréchet distance compares."""
SMALL = 1e-6
"""Added to the diagonals of covariances, so that they have a square root."""
PACKAGES = ("torch", "lpips", "scikit-image")

TASKS: dict[str, DegradingTask] = {
    "super-resolution": SuperResolution(),
    "colorization": Colorization(),
    "inpainting": Inpainting(mask_area=0.25),
}
BLOCKS = {"condition_steps": 4, "target_steps": 4, "own_steps": 4, "image_width": 64, "conditional_width": 32}
FAMILIES: dict[str, dict[str, Any]] = {
    "CAFLOW": {**BLOCKS, "dependencies": "unshared"},
    "CAFLOW, shared": {**BLOCKS, "dependencies": "shared"},
    "DUAL-GLOW": {**BLOCKS, "own_steps": 8, "dependencies": "dual-glow"},
    "conditional Glow": {"target_steps": 7, "conditional_width": 64, "dependencies": "conditional-glow"},
    "cINN": {
        "target_steps": 6,
        "condition_steps": 2,
        "conditional_width": 64,
        "image_width": 32,
        "dependencies": "cinn",
    },
}
"""Numbers of steps are chosen so that a training step of each family takes the same operations, within 6 %."""
TRAINING = TrainingConfig(
    batch=8,
    crop=SIDE,
    crop_scales=(1.0, 0.5, 0.25),
    crop_candidates=4,
    learning_rate=5e-4,
    warm_up_steps=100,
    epoch_steps=500,
    ema_decay=0.995,
)


def recipe_of(task: str, family: str, steps: int, seed: int) -> Recipe:
    """Return the recipe of a cell."""
    model = CAFlowConfig(levels=3, task=TASKS[task], **FAMILIES[family])
    return Recipe(model, replace(TRAINING, steps=steps, level_off_step=steps * 4 // 5, seed=seed))


@torch.no_grad()
def operations(model: CAFlow) -> float:
    """Return the millions of operations of one pass over a crop, which a training step multiplies by three."""
    side = SIDE // model.config.task.scale
    with FlopCounterMode(display=False) as counter:
        model.log_joint(torch.zeros(1, 3, SIDE, SIDE), torch.zeros(1, 3, side, side))
    return float(counter.get_total_flops()) / 1e6


def pairs_of(task: DegradingTask, folders: list[Path]) -> tuple[list[Picture], list[Picture]]:
    """Return the targets of all photographs and their conditions. Holes are at the same place in all."""
    targets = [crop.target for folder in folders for crop in crops(folder, SIDE)]
    if isinstance(task, SuperResolution):
        return targets, [reduce(target) for target in targets]
    return targets, [task.degrade(target, np.random.default_rng(k)) for k, target in enumerate(targets)]


def rmse(result: Picture, target: Picture) -> float:
    """Return the root mean square error of RGB, in grey levels."""
    return float(np.sqrt(np.square(result.astype(float) - target).mean()))


def colour_rmse(result: Picture, target: Picture) -> float:
    """Return the root mean square error of a and b in CIELAB."""
    return float(np.sqrt(np.square(rgb2lab(result) - rgb2lab(target))[..., 1:].mean()))


@torch.no_grad()
def samples_of(model: CAFlow, conditions: list[Picture]) -> tuple[NDArray[np.uint8], NDArray[np.float64], float]:
    """Draw `SAMPLES` samples of each condition.

    Returns: the images, (conditions, samples, H, W, 3); their log-likelihoods, (conditions, samples) in nats; and
        seconds per sample.
    """
    generator, images, likelihoods, start = torch.Generator().manual_seed(0), [], [], time.perf_counter()
    for condition in conditions:
        given = _planes([condition]).expand(SAMPLES, -1, -1, -1)
        drawn = model.sample(given, model.draw_noise(SAMPLES, SIDE, SIDE, generator), TEMPERATURE)
        images.append(to_integers(drawn.images).permute(0, 2, 3, 1).numpy())
        likelihoods.append(drawn.log_likelihood.total.double().numpy())
    seconds = (time.perf_counter() - start) / (SAMPLES * len(conditions))
    return np.stack(images), np.stack(likelihoods), seconds


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


def measure(model: CAFlow, task: str, judge: Judge, folders: list[Path]) -> dict[str, float]:
    """Judge a trained model on the crops of photographs that no training saw."""
    kind, share = TASKS[task], 1.0
    targets, conditions = pairs_of(kind, folders)
    images, likelihoods, seconds = samples_of(model, conditions)
    error = colour_rmse if task == "colorization" else rmse
    if isinstance(kind, Inpainting):  # known pixels are put back, so all of the error is in the hole
        hole = kind.degrade(np.ones((SIDE, SIDE, 3), np.uint8), np.random.default_rng())[..., 0] == 0
        images = np.where(hole[..., None], images, np.stack(conditions)[:, None])
        share = float(hole.mean())
    errors = np.array([[error(one, target) for one in drawn] for drawn, target in zip(images, targets, strict=True)])
    errors /= np.sqrt(share)
    best, rows = likelihoods.argmax(1), np.arange(len(targets))
    chosen, first = list(images[rows, best]), list(images[:, 0])
    found = {
        "bits/dim": held_out_bits(model, targets, conditions),
        "error, likeliest of 10": float(errors[rows, best].mean()),
        "error, mean of 10": float(errors.mean()),
        "error, best of 10": float(errors.min(1).mean()),
        "LPIPS, likeliest of 10": float(np.mean(judge.lpips(chosen, targets))),
        "LPIPS, first of 10": float(np.mean(judge.lpips(first, targets))),
        "Fréchet, first of 10": frechet_distance(judge, first, targets),
        "deviation of samples": float(images.astype(float).std(1).mean() / share),
        "s/sample": seconds,
    }
    if task == "super-resolution":
        found["LR-PSNR, first of 10"] = float(
            np.mean([psnr(reduce(result), y) for result, y in zip(first, conditions, strict=True)])
        )
    return found


def _planes(images: list[Picture]) -> Tensor:
    """Return images of equal size as (N, 3, H, W) uint8."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


@click.command()
@report.options
@click.option("--steps", default=1000, show_default=True, help="Training steps of each cell.")
@click.option(
    "--scratch",
    type=click.Path(path_type=Path),
    default=Path("build/paper"),
    show_default=True,
    help="Folder of the training runs.",
)
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1, 2), show_default=True)
@click.option("--task", "tasks", type=click.Choice(list(TASKS)), multiple=True, default=tuple(TASKS))
@click.option("--family", "families", type=click.Choice(list(FAMILIES)), multiple=True, default=tuple(FAMILIES))
def main(
    threads: int,
    json_file: Path | None,
    steps: int,
    scratch: Path,
    seeds: tuple[int, ...],
    tasks: tuple[str, ...],
    families: tuple[str, ...],
) -> None:
    """Train and judge all cells, and write the JSON file after each."""
    torch.set_num_threads(threads)
    judge, folders = Judge(PHOTOGRAPHS / "metrics"), [PHOTOGRAPHS / "validation", PHOTOGRAPHS / "test"]
    rows = json.loads(json_file.read_text())["rows"] if json_file is not None and json_file.exists() else []
    known = {(row["task"], row["family"], row["seed"], row["steps"]) for row in rows}
    for seed, task, family in product(seeds, tasks, families):
        if (task, family, seed, steps) in known:
            continue
        out = scratch / f"{task}-{family}-{seed}-{steps}".replace(" ", "-").replace(",", "")
        recipe = recipe_of(task, family, steps, seed)
        model = checkpoint.load(train(recipe, PHOTOGRAPHS / "training", out, lambda _: None))
        size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        cell = {
            "task": task,
            "family": family,
            "seed": seed,
            "steps": steps,
            "M parameters": size,
            "M operations": operations(model),
        }
        rows.append(cell | measure(model, task, judge, folders))
        print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
        report.write(json_file, rows, PACKAGES, batch=TRAINING.batch, temperature=TEMPERATURE)


if __name__ == "__main__":
    main()
