"""Which configuration the built-in ×4 model should have: a few, each trained for the same number of steps.

Held-out bits per dimension on photographs of the training set's kind, and PSNR, LPIPS and LR-PSNR of single samples on
the `validation` photographs, which are neither trained on nor tested with.
"""

import json
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
import report
import torch
from metrics import Crop, Judge, crops, mean

from caflow_export.export import PRECISIONS
from caflow_export.graphs import ModelGraphs
from caflow_export.manifest_entries import numbers_of
from caflow_export.operations import count_operations
from caflow_export.to_onnx import graphs_to_trace
from caflow_runtime.bundle.manifest import DEFAULT_SAMPLING, cell_side
from caflow_training import checkpoint
from caflow_training.config import CAFlowConfig
from caflow_training.model import CAFlow
from caflow_training.recipe import Recipe, TrainingConfig
from caflow_training.results import to_integers
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
    image_width=32,
    conditional_width=32,
    image_transition_steps=1,
    conditional_transition_steps=1,
    residual=True,
)
TRAINING = TrainingConfig(
    batch=8,
    crop=SIDE,
    crop_scales=(1.0, 0.5, 0.25),
    crop_candidates=4,
    precision="bf16",
    warm_up_steps=100,
    epoch_steps=500,
    ema_decay=0.995,
)
MEAN = {"mean_blocks": 8, "mean_width": 64, "mean_features": 16}
WITH_MEAN = {"mean_weight": 10.0}
WIDE = {"image_width": 64, "conditional_width": 64}
DEEP = {"own_steps": 9, "cross_steps": 1}
LONGER = {"steps": 300, "learning_rate": 1e-4, "warm_up_steps": 20, "level_off_step": 250, "ema_decay": 0.99}
SAMPLES = {"likelihood_weight": 0.02, "still_weight": 1.0, "feature_weight": 0.4, "lattice_weight": 2.0}


@dataclass(frozen=True)
class Variant:
    """What a variant changes in the model and in its training."""

    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    start: str | None = None
    """Name of the variant whose trained weights it starts from."""


VARIANTS = {
    "base: width 32, 4 own and 4 cross steps": Variant(),
    "mean network": Variant(MEAN, WITH_MEAN),
    "mean network, 300 more steps": Variant(MEAN, LONGER | WITH_MEAN, start="mean network"),
    "mean network, 300 more steps with samples": Variant(MEAN, LONGER | SAMPLES, start="mean network"),
    "DUAL-GLOW's dependencies, 11 own steps": Variant({"dependencies": "dual-glow", "own_steps": 11}),
    "9 own and 1 cross step": Variant(DEEP),
    "2 own and 5 cross steps": Variant({"own_steps": 2, "cross_steps": 5}),
    "mean network, 9 own and 1 cross step": Variant(MEAN | DEEP, WITH_MEAN),
    "log_scale_bound = 0.5": Variant({"log_scale_bound": 0.5}),
    "latent_noise = 0.3": Variant(training={"latent_noise": 0.3}),
    "width 64": Variant(WIDE),
    "width 64, mean network": Variant(WIDE | MEAN, WITH_MEAN),
}
"""Own and cross steps are chosen so that a sample of every variant of width 32 takes the same number of operations,
within 4 %."""


def operations(model: CAFlow) -> dict[str, float]:
    """Return thousands of operations per pixel of the target: those once per image, and those of each sample."""
    types = PRECISIONS["fp32"]
    found = {"k operations, image": 0.0, "k operations, sample": 0.0}
    for graph in graphs_to_trace(model, ModelGraphs.of(model, types), types.state):
        kind = "image" if graph.name == "encode" else "sample"
        if graph.name.startswith(("encode", "decode", "reverse")):
            found[f"k operations, {kind}"] += (
                count_operations(graph, cell_side(numbers_of(model, DEFAULT_SAMPLING), graph.name)) / 1e3
            )
    return found


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


@dataclass(frozen=True)
class Study:
    """Settings of all variants."""

    steps: int
    scratch: Path
    vgg16: Path | None

    def trained(self, name: str, seed: int) -> Path:
        """Train a variant, or resume its training, and return its checkpoint."""
        variant = VARIANTS[name]
        start = [self.trained(variant.start, seed)] if variant.start else []
        settings = {"steps": self.steps, "level_off_step": self.steps * 4 // 5, "seed": seed} | variant.training
        recipe = Recipe(replace(MODEL, **variant.model), replace(TRAINING, **settings))
        return train(recipe, PHOTOGRAPHS / "training", self.out(name, seed), lambda _: None, start, self.vgg16)

    def out(self, name: str, seed: int) -> Path:
        """Return the folder of a variant's training."""
        return self.scratch / (name.replace(" ", "-") + (f"-seed-{seed}" if seed else ""))

    def measure(self, name: str, seed: int, judge: Judge, given: list[Crop]) -> dict[str, Any]:
        """Train a variant and judge it."""
        model = checkpoint.load(self.trained(name, seed))
        log = [json.loads(line) for line in (self.out(name, seed) / "log.jsonl").read_text().splitlines()]
        return {
            "variant": name,
            "seed": seed,
            "M parameters": sum(p.numel() for p in model.parameters()) / 1e6,
            **operations(model),
            "bits/dim": [line for line in log if "held_out_bits_per_dim" in line][-1]["held_out_bits_per_dim"],
            **quality(model, judge, given),
        }


@click.command()
@report.options
@click.option("--steps", default=3000, show_default=True, help="Training steps of each variant.")
@click.option(
    "--scratch",
    type=click.Path(path_type=Path),
    default=Path("build/study"),
    show_default=True,
    help="Folder of the training runs.",
)
@click.option("--only", type=click.Choice(list(VARIANTS)), multiple=True, help="Variant to train; by default all are.")
@click.option(
    "--seed", "seeds", type=int, multiple=True, default=(0,), show_default=True, help="Seed; may be repeated."
)
@click.option("--vgg16", type=click.Path(path_type=Path, exists=True), help="VGG16's weights, as for caflow-train.")
def main(
    threads: int,
    json_file: Path | None,
    steps: int,
    scratch: Path,
    only: tuple[str, ...],
    seeds: tuple[int, ...],
    vgg16: Path | None,
) -> None:
    """Train and judge all variants; first: python models/photographs.py KIND build/photographs/KIND for each kind."""
    torch.set_num_threads(threads)
    judge = Judge(PHOTOGRAPHS / "metrics")
    given = crops(PHOTOGRAPHS / "validation", SIDE)
    study = Study(steps, scratch, vgg16)
    found = {}
    for name, seed in product(only or VARIANTS, seeds):
        found[name, seed] = study.measure(name, seed, judge, given)
        print(json.dumps(found[name, seed], ensure_ascii=False), flush=True)
    report.show(list(found.values()))
    if json_file is not None and json_file.exists():
        earlier = json.loads(json_file.read_text())["rows"]
        found = {(row["variant"], row["seed"]): row for row in earlier} | found
    order = list(VARIANTS)
    rows = sorted(found.values(), key=lambda row: (order.index(row["variant"]), row["seed"]))
    report.write(json_file, rows, PACKAGES, steps=steps, batch=TRAINING.batch, crops=len(given))


if __name__ == "__main__":
    main()
