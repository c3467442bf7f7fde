"""Training: learning, resuming, stopping at errors, and several processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import command, json_lines_of
from torch import Tensor

from caflow_training import checkpoint, validation
from caflow_training.config import CAFlowConfig
from caflow_training.model import CAFlow
from caflow_training.objective import AveragedWeights, learning_rate
from caflow_training.recipe import Recipe, TrainingConfig, load_recipe, recipe_from_dict
from caflow_training.resuming import ResumeError
from caflow_training.tasks import ImageToImage
from caflow_training.trainer import TrainingStopped, train

# A run of a few seconds, with a checkpoint every 4 steps and a validation every 6.
SHORT: dict[str, Any] = {
    "task": "super-resolution",
    "levels": 2,
    "condition_steps": 1,
    "target_steps": 1,
    "own_steps": 1,
    "cross_steps": 1,
    "image_width": 8,
    "conditional_width": 8,
    "residual": True,
    "steps": 14,
    "batch": 4,
    "crop": 16,
    "warm_up_steps": 4,
    "epoch_steps": 6,
    "level_off_step": 10,
    "checkpoint_steps": 4,
    "validation_crops": 4,
}


GAUSSIAN_BITS_PER_DIM = 6.637
"""Held-out bits/dim of a Gaussian per channel of target − prepared condition, fitted to 512 crops of `tiny`."""
RESTART_WARNING = "set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment"


def short_recipe(**changes: Any) -> Recipe:
    return recipe_from_dict(SHORT | changes)


def write_recipe(path: Path, **changes: Any) -> Path:
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in (SHORT | changes).items()))
    return path


def log_of(out: Path) -> list[dict[str, Any]]:
    return json_lines_of(out / "log.jsonl")


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in log_of(out) if "loss" in line]


def everything(contents: Any) -> list[Any]:
    """Return all keys, tensors and values of a checkpoint in one list."""
    if isinstance(contents, dict):
        return [leaf for key in contents for leaf in (key, *everything(contents[key]))]
    if isinstance(contents, list | tuple):
        return [leaf for item in contents for leaf in everything(item)]
    return [contents]


def assert_same_checkpoint(first: Path, second: Path) -> None:
    for a, b in zip(everything(checkpoint.read(first)), everything(checkpoint.read(second)), strict=True):
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b


@pytest.mark.full
def test_the_tiny_recipe_learns(photographs: Path, tmp_path: Path) -> None:
    """Held-out bits/dim fall below those of independent Gaussians that are fitted to the training residuals."""
    recipe = load_recipe("tiny")
    recipe = replace(recipe, training=replace(recipe.training, steps=120, epoch_steps=60))
    train(recipe, photographs, tmp_path)
    curve = [line["held_out_bits_per_dim"] for line in log_of(tmp_path) if "held_out_bits_per_dim" in line]
    assert len(curve) == 2
    assert curve[1] < curve[0]
    assert curve[1] < GAUSSIAN_BITS_PER_DIM - 0.3
    assert (tmp_path / "samples-0000120.png").stat().st_size > 10_000


@pytest.mark.parametrize("condition_weight", [0.0, 1.0])
def test_training_reduces_the_loss_with_and_without_the_condition_term(
    condition_weight: float, photographs: Path, tmp_path: Path
) -> None:
    recipe = short_recipe(condition_weight=condition_weight, steps=40, learning_rate=3e-3, level_off_step=100)
    train(recipe, photographs, tmp_path)
    curve = losses(tmp_path)
    assert np.mean(curve[-5:]) < np.mean(curve[:5]) - 0.05


def test_the_learning_rate_warms_up_decays_and_levels_off_once() -> None:
    config = TrainingConfig(
        learning_rate=1.0, warm_up_steps=10, epoch_steps=100, decay_per_epoch=0.5, level_off_step=250
    )
    rates = [learning_rate(step, config) for step in (0, 4, 9, 99, 100, 249, 250, 300)]
    assert rates == pytest.approx([0.1, 0.5, 1.0, 1.0, 0.5, 0.25, 0.025, 0.0125])


def test_the_gradient_is_clipped(photographs: Path, tmp_path: Path) -> None:
    """The log shows norms before clipping, which exceed the limit. Adam receives clipped gradients."""
    recipe = short_recipe(steps=2, gradient_clip=1e-3)
    train(recipe, photographs, tmp_path)
    assert all(line["gradient_norm"] > 1e-2 for line in log_of(tmp_path) if "loss" in line)
    state = checkpoint.read(tmp_path / "last.pt")["training"]["optimizer"]["state"]
    squared = sum((entry["exp_avg"].square().sum() for entry in state.values()), torch.tensor(0.0))
    assert squared.sqrt() <= 1e-3  # an average of clipped gradients has at most their norm


KILLED = """
import os, signal, sys
from caflow_training.cli import main
from caflow_training.progress import TrainingLog

last, *arguments = sys.argv[1:]
log = TrainingLog.step

def log_and_die(self, step, *values, **others):
    log(self, step, *values, **others)
    if step == int(last):
        os.kill(os.getpid(), signal.SIGKILL)

TrainingLog.step = log_and_die
main(arguments)
"""


@pytest.mark.full
def test_a_killed_run_resumes_to_the_last_bit(photographs: Path, tmp_path: Path) -> None:
    recipe, out = write_recipe(tmp_path / "recipe.toml"), tmp_path / "killed"
    arguments = [str(recipe), "--data", str(photographs), "--out"]
    training = command(*arguments, package="caflow_training")
    subprocess.run([*training, str(tmp_path / "whole")], check=True, capture_output=True)
    for last, saved in ((2, None), (5, 4), (9, 8)):  # before the first checkpoint, between two, after the second
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(last), *arguments, str(out)], capture_output=True, check=False
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert [line["step"] for line in log_of(out) if "loss" in line] == list(range(last + 1))
        assert (out / "last.pt").exists() == (saved is not None)
        if saved is not None:
            assert checkpoint.read(out / "last.pt")["training"]["step"] == saved
    subprocess.run([*training, str(out)], check=True, capture_output=True)
    assert_same_checkpoint(tmp_path / "whole" / "last.pt", out / "last.pt")
    assert losses(tmp_path / "whole") == losses(out)
    assert [line["step"] for line in log_of(out) if "loss" in line] == list(range(14))


def test_resuming_with_another_recipe_is_refused(photographs: Path, tmp_path: Path) -> None:
    train(short_recipe(steps=4), photographs, tmp_path)
    wanted = r"trained with batch = 4, but the recipe has batch = 8: use the same recipe .* --start \S+last.pt to begin"
    with pytest.raises(ResumeError, match=wanted):
        train(short_recipe(batch=8), photographs, tmp_path)


def explode(contents: dict[str, Any]) -> None:
    """Let the loss overflow."""
    contents["weights"]["target_flow.levels.0.layers.1.norm.bias"].fill_(1e30)


def make_singular(contents: dict[str, Any]) -> None:
    """Let the inverse divide by almost 0, while the forward direction works."""
    for key in ("weights", "ema"):
        weight = contents[key]["target_flow.levels.0.layers.1.conv.weight"]
        weight[0] = weight[1] + 1e-7 * torch.randn_like(weight[1])


@pytest.mark.parametrize(
    ("damage", "changes", "message"),
    [
        (explode, {}, r"step 4: the loss .* is not finite.*last\.pt.*gradient_clip"),
        (explode, {"precision": "bf16"}, r"step 4: the loss .* is not finite.*last\.pt.*precision = 'fp32'"),
        (make_singular, {"learning_rate": 1e-9}, "step 6: exploding inverse"),
    ],
)
def test_numbers_that_explode_stop_training_and_keep_the_last_checkpoint(
    damage: Callable[[Any], None], changes: dict[str, Any], message: str, photographs: Path, tmp_path: Path
) -> None:
    train(short_recipe(steps=4, **changes), photographs, tmp_path)
    contents = checkpoint.read(tmp_path / "last.pt")
    damage(contents)
    torch.save(contents, tmp_path / "last.pt")
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(TrainingStopped, match=message):
        train(short_recipe(**changes), photographs, tmp_path)
    assert (tmp_path / "last.pt").read_bytes() == before


@pytest.mark.full
def test_two_processes_train_as_one(photographs: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml", steps=12)
    arguments = ["caflow_training.cli", str(recipe), "--data", str(photographs), "--out"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", None)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    for launcher, out, warnings in (([sys.executable, "-m"], "one", 0), ([*torchrun, "-m"], "two", 1)):
        run = [*launcher, *arguments, str(tmp_path / out)]
        ended = subprocess.run(run, check=True, capture_output=True, text=True, env=environment)
        assert ended.stderr.count(RESTART_WARNING) == warnings
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    key = "held_out_bits_per_dim"
    one, two = ([line[key] for line in log_of(tmp_path / out) if key in line] for out in ("one", "two"))
    assert two == pytest.approx(one, rel=1e-5)


def test_bf16_networks_train(photographs: Path, tmp_path: Path) -> None:
    train(short_recipe(precision="bf16"), photographs, tmp_path / "half")
    train(short_recipe(), photographs, tmp_path / "full")
    half, full = losses(tmp_path / "half"), losses(tmp_path / "full")
    assert half != full
    assert half == pytest.approx(full, rel=0.02)
    assert all(t.dtype == torch.float32 for t in checkpoint.load(tmp_path / "half" / "last.pt").parameters())


@pytest.mark.full
def test_a_compiled_run_trains_as_the_plain_one(photographs: Path, tmp_path: Path) -> None:
    for name, compiled in (("plain", False), ("compiled", True)):
        recipe = write_recipe(tmp_path / f"{name}.toml", compile=compiled, steps=6)
        training = command(recipe, "--data", photographs, "--out", tmp_path / name, package="caflow_training")
        subprocess.run(training, check=True, capture_output=True)
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-4)


def test_averaged_weights_warm_up() -> None:
    layer = torch.nn.Linear(1, 1)
    average = AveragedWeights(layer, 0.999)
    start = layer.weight.item()
    torch.nn.init.constant_(layer.weight, start + 1)
    average.update(layer, 0)
    assert average.values["weight"].item() == pytest.approx(start + 0.9)
    average.update(layer, 20_000)
    assert average.values["weight"].item() == pytest.approx(start + 0.9001, abs=1e-5)


def test_sheets_refuse_samples_that_are_not_finite(tmp_path: Path) -> None:
    model = CAFlow(CAFlowConfig(levels=1, condition_steps=1, target_steps=1, own_steps=1, task=ImageToImage()))
    torch.nn.init.constant_(model.target_flow.levels[0].layers[1].norm.log_scale, -1e5)  # type: ignore[union-attr, index]
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(validation.ExplodingInverse, match=r"temperature 1\.0 is not finite"):
        validation.write_sheet(tmp_path / "sheet.png", model, images, images, (1.0,), 0)
    assert not list(tmp_path.iterdir())
