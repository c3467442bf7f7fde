"""The paper's claims: five conditional flows on three tasks of 64×64 pixels, with equal operations, steps and data.

Each cell of the table is one family, one task and one seed. Cells that are in the JSON file are not computed again.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
import report
import torch
from metrics import Judge, folder_of
from paper.baselines import Baseline, Kind, train_baseline
from paper.scores import SAMPLES, SIDE, TASKS, held_out_bits, measure, pairs_of, references, samples_of
from torch.utils.flop_counter import FlopCounterMode

from caflow_training import checkpoint
from caflow_training.checkpoint import LAST_CHECKPOINT
from caflow_training.config import CAFlowConfig
from caflow_training.model import CAFlow
from caflow_training.recipe import Recipe, TrainingConfig
from caflow_training.trainer import train

ROUNDS = 5
"""Number of times that each family's samples are timed."""
TEMPERATURES = (0.8, 1.0)
"""Temperatures at which each model is judged."""
BLOCKS = {"condition_steps": 4, "target_steps": 4, "own_steps": 4, "image_width": 64, "conditional_width": 32}
FAMILIES: dict[str, dict[str, Any]] = {
    "CAFLOW": {**BLOCKS, "dependencies": "unshared"},
    "CAFLOW, shared": {**BLOCKS, "dependencies": "shared"},
    "DUAL-GLOW": {**BLOCKS, "own_steps": 8, "dependencies": "dual-glow"},
    "conditional Glow": {"target_steps": 7, "conditional_width": 64},
    "cINN": {"target_steps": 6, "condition_steps": 2, "conditional_width": 64, "image_width": 32},
}
"""Numbers of steps are chosen so that a training step of each family takes the same operations, within 6 %."""
BASELINES: tuple[Kind, ...] = ("conditional Glow", "cINN")
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
    """Return the recipe of a cell.

    Differences from the condition are modelled: otherwise families spend so short a training on copying the condition.
    """
    model = CAFlowConfig(levels=3, residual=True, task=TASKS[task], **FAMILIES[family])
    return Recipe(model, replace(TRAINING, steps=steps, level_off_step=steps * 4 // 5, seed=seed))


@torch.no_grad()
def operations(model: CAFlow) -> float:
    """Return the millions of operations of one pass over a crop, which a training step multiplies by three."""
    side = SIDE // model.config.task.scale
    with FlopCounterMode(display=False) as counter:
        model.log_joint(torch.zeros(1, 3, SIDE, SIDE), torch.zeros(1, 3, side, side))
    return float(counter.get_total_flops()) / 1e6


def judged(
    model: CAFlow, cell: dict[str, Any], temperatures: list[float], judge: Judge, folders: list[Path]
) -> Iterator[dict[str, Any]]:
    """Yield a row of figures of a trained model for each temperature."""
    size = {
        "M parameters": sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        "M operations": operations(model),
    }
    bits = held_out_bits(model, *pairs_of(TASKS[cell["task"]], folders))
    for temperature in temperatures:
        found = measure(model, cell["task"], temperature, judge, folders)
        yield {**cell, "temperature": temperature, **size, "bits/dim": bits, **found}


def seconds_per_sample() -> dict[str, float]:
    """Return the seconds in which each family draws one of `SAMPLES` samples of ×4, measured in turns."""

    def draw(family: str) -> Callable[[], object]:
        config, generator = recipe_of("super-resolution", family, 1, 0).model, torch.Generator()
        model = (Baseline(config, family) if family in BASELINES else CAFlow(config)).eval()
        condition = np.zeros((SIDE // 4, SIDE // 4, 3), np.uint8)
        return lambda: samples_of(model, condition, TEMPERATURES[0], generator)

    runs = {family: draw(family) for family in FAMILIES}
    return {family: seconds / SAMPLES for family, seconds in report.side_by_side(runs, ROUNDS).items()}


def trained(task: str, family: str, steps: int, seed: int, scratch: Path) -> CAFlow:
    """Return the model of a cell, whose training is started, resumed or finished already."""
    recipe, data = recipe_of(task, family, steps, seed), folder_of("training")
    out = scratch / f"{task}-{family}-{seed}-{steps}".replace(" ", "-").replace(",", "")
    if family in BASELINES:
        return train_baseline(recipe, family, data, out / LAST_CHECKPOINT)
    return checkpoint.load(train(recipe, data, out, lambda _: None))


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
    """Train and judge all cells, and write the JSON file after each. Measure the time of a sample at the end."""
    torch.set_num_threads(threads)
    judge, folders = Judge(), [folder_of("validation"), folder_of("test")]
    found = json.loads(json_file.read_text()) if json_file is not None and json_file.exists() else {"rows": []}
    rows = found["rows"]
    settings: dict[str, Any] = {"batch": TRAINING.batch, "samples": SAMPLES}
    known = {(row["task"], row["family"], row["seed"], row["steps"], row["temperature"]) for row in rows}
    for seed, task, family in product(seeds, tasks, families):
        missing = [t for t in TEMPERATURES if (task, family, seed, steps, t) not in known]
        if not missing:
            continue
        cell = {"task": task, "family": family, "seed": seed, "steps": steps}
        for row in judged(trained(task, family, steps, seed, scratch), cell, missing, judge, folders):
            rows.append(row)
            print(json.dumps(row, ensure_ascii=False), flush=True)
        report.write(json_file, rows, **settings)
    figures = {"seconds per sample": seconds_per_sample(), "references": references(judge, folders)}
    report.write(json_file, rows, figures, **settings)


if __name__ == "__main__":
    main()
