"""Which configuration the built-in ×4 model should have: a few, each trained for the same number of steps.

Held-out bits per dimension on photographs of the training set's kind, and PSNR, LPIPS and LR-PSNR of single samples on
the `validation` photographs, which are neither trained on nor tested with.
"""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import report
import torch
from metrics import Crop, Judge, crops, mean

from caflow_training import checkpoint
from caflow_training.config import CAFlowConfig
from caflow_training.model import CAFlow, to_integers
from caflow_training.recipe import Recipe, TrainingConfig
from caflow_training.trainer import train

PHOTOGRAPHS = Path("build/photographs")
SIDE = 64
TEMPERATURES = (0.0, 0.8, 0.9, 1.0)
PACKAGES = ("torch", "lpips", "scikit-image")

MODEL = CAFlowConfig(
    levels=3,
    condition_steps=4,
    target_steps=4,
    own_steps=4,
    cross_steps=4,
    image_width=64,
    conditional_width=64,
    image_transition_steps=1,
    conditional_transition_steps=1,
    residual=True,
)
TRAINING = TrainingConfig(
    crop=SIDE, crop_scales=(1.0, 0.5, 0.25), precision="bf16", warm_up_steps=100, epoch_steps=500, ema_decay=0.995
)
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "base": ({}, {}),
    "of 4 crops the richest": ({}, {"crop_candidates": 4}),
    "the same, at an eighth too": ({}, {"crop_candidates": 4, "crop_scales": (1.0, 0.5, 0.25, 0.125)}),
    "2 transition steps": ({"image_transition_steps": 2, "conditional_transition_steps": 2}, {}),
    "width 48": ({"image_width": 48, "conditional_width": 48}, {}),
    "shallow condition flow": ({"condition_steps": 2}, {}),
    "shared g": ({"dependencies": "shared"}, {}),
    "DUAL-GLOW's dependencies, as many parameters": ({"dependencies": "dual-glow", "own_steps": 11}, {}),
    "λ = 0": ({}, {"condition_weight": 0.0}),
    "λ = 0.1": ({}, {"condition_weight": 0.1}),
    "no residual": ({"residual": False}, {}),
    "learning rate 2e-3": ({}, {"learning_rate": 2e-3}),
}


@torch.no_grad()
def quality(model: CAFlow, judge: Judge, given: list[Crop]) -> dict[str, float]:
    """PSNR, LPIPS and LR-PSNR of one sample of each crop at every temperature."""
    conditions = torch.from_numpy(np.stack([crop.condition for crop in given])).permute(0, 3, 1, 2)
    noise = model.draw_noise(len(given), SIDE, SIDE, torch.Generator().manual_seed(0))
    found: dict[str, float] = {}
    for temperature in TEMPERATURES:
        images = to_integers(model.sample(conditions, noise, temperature).images).permute(0, 2, 3, 1).numpy()
        scores = mean(judge.scores(list(images), given))
        found |= {f"PSNR {temperature}": scores.psnr, f"LPIPS {temperature}": scores.lpips}
    return found | {"LR-PSNR 1.0": scores.lr_psnr}


def measure(name: str, steps: int, scratch: Path, judge: Judge, given: list[Crop]) -> dict[str, Any]:
    """Train one variant, or read what is left of an earlier run, and judge it."""
    model_changes, training_changes = VARIANTS[name]
    training = replace(TRAINING, steps=steps, level_off_step=steps * 4 // 5, **training_changes)
    out = scratch / name.replace(" ", "-")
    started = time.perf_counter()
    last = train(Recipe(replace(MODEL, **model_changes), training), PHOTOGRAPHS / "training", out, say=lambda _: None)
    took = time.perf_counter() - started
    model = checkpoint.load(last)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {
        "variant": name,
        "M parameters": sum(p.numel() for p in model.parameters()) / 1e6,
        "s / step": took / steps,
        "bits/dim": [line for line in log if "held_out_bits_per_dim" in line][-1]["held_out_bits_per_dim"],
        **quality(model, judge, given),
    }


@click.command()
@report.options
@click.option("--steps", default=1000, show_default=True)
@click.option("--scratch", type=click.Path(path_type=Path), default=Path("build/study"), show_default=True)
@click.option("--only", type=click.Choice(list(VARIANTS)), multiple=True, help="Of the variants; by default all.")
def main(threads: int, json_file: Path | None, steps: int, scratch: Path, only: tuple[str, ...]) -> None:
    """Train and judge all variants; first: python models/photographs.py KIND build/photographs/KIND for each kind."""
    torch.set_num_threads(threads)
    judge = Judge(PHOTOGRAPHS / "metrics")
    given = crops(PHOTOGRAPHS / "validation", SIDE)
    rows = []
    for name in only or VARIANTS:
        rows.append(measure(name, steps, scratch, judge, given))
        print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    report.show(rows)
    report.write(json_file, rows, PACKAGES, steps=steps, batch=TRAINING.batch, crops=len(given))


if __name__ == "__main__":
    main()
